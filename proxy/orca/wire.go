package orca

import (
	"bytes"
	"encoding/base64"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of the message xds.data.orca.v3.OrcaLoadReport.
const (
	fieldCPU         = 1
	fieldMemory      = 2
	fieldCost        = 4
	fieldUtilization = 5
	fieldRate        = 6
	fieldErrors      = 7
	fieldNamed       = 8
	fieldApplication = 9
)

// binary reads the message in Base64, padded or not.
func (r *Report) binary(v []byte, wanted Metrics) error {
	v = bytes.TrimRight(v, "=")
	var room [512]byte
	b := room[:]
	if n := base64.RawStdEncoding.DecodedLen(len(v)); n > len(room) {
		b = make([]byte, n)
	}
	n, err := base64.RawStdEncoding.Decode(b, v)
	if err != nil || n == 0 {
		return errBinary
	}
	return r.message(b[:n], wanted)
}

// message reads the message. What it does not know it passes over.
func (r *Report) message(b []byte, wanted Metrics) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errBinary
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
			return errBinary
		}
		value := b[:n]
		b = b[n:]
		switch kind {
		case protowire.Fixed64Type:
			bits, _ := protowire.ConsumeFixed64(value)
			if f := r.numbered(num); f != nil {
				*f = math.Float64frombits(bits)
			}
		case protowire.BytesType:
			if in := mapOf(num); in != "" {
				entry, _ := protowire.ConsumeBytes(value)
				if err := r.entry(in, entry, wanted); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *Report) numbered(num protowire.Number) *float64 {
	switch num {
	case fieldCPU:
		return &r.CPU
	case fieldMemory:
		return &r.Memory
	case fieldRate:
		return &r.Rate
	case fieldErrors:
		return &r.Errors
	case fieldApplication:
		return &r.Application
	}
	return nil
}

func mapOf(num protowire.Number) string {
	switch num {
	case fieldCost:
		return inCost
	case fieldUtilization:
		return inUtilization
	case fieldNamed:
		return inNamed
	}
	return ""
}

// entry reads a key and a value of a map.
func (r *Report) entry(in string, b []byte, wanted Metrics) error {
	var key []byte
	var number float64
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errBinary
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
			return errBinary
		}
		switch {
		case num == 1 && kind == protowire.BytesType:
			key, _ = protowire.ConsumeBytes(b)
		case num == 2 && kind == protowire.Fixed64Type:
			bits, _ := protowire.ConsumeFixed64(b)
			number = math.Float64frombits(bits)
		}
		b = b[n:]
	}
	if !utf8.Valid(key) {
		return errBinary
	}
	r.note(in, key, number, wanted)
	return nil
}
