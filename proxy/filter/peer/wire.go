package peer

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/mallamesh/malla/proxy/stats"
)

// The names that Istio gives to what a workload tells of itself.
const (
	keyNamespace = "NAMESPACE"
	keyWorkload  = "WORKLOAD_NAME"
	keyCluster   = "CLUSTER_ID"
	keyLabels    = "LABELS"

	labelName     = "service.istio.io/canonical-name"
	labelRevision = "service.istio.io/canonical-revision"
	labelApp      = "app"
	labelVersion  = "version"
)

// Protobuf's wire format, as far as a Struct needs it: a Struct is entries (field
// 1) of key (1) and Value (2); a Value is a string (3) or a Struct (5).
const (
	tagFirst  = 1<<3 | 2
	tagSecond = 2<<3 | 2
	tagString = 3<<3 | 2
	tagStruct = 5<<3 | 2
)

// Encode returns the Struct that tells of a peer.
func Encode(p *stats.Peer, extra []Entry) []byte {
	var labels []byte
	for _, e := range []Entry{{labelApp, p.App}, {labelName, p.CanonicalService}, {labelRevision, p.CanonicalRevision}, {labelVersion, p.Version}} {
		labels = appendString(labels, e)
	}
	var b []byte
	for _, e := range append([]Entry{{keyCluster, p.Cluster}, {keyNamespace, p.Namespace}, {keyWorkload, p.Workload}}, extra...) {
		b = appendString(b, e)
	}
	return appendEntry(b, keyLabels, tagStruct, labels)
}

func appendString(b []byte, e Entry) []byte {
	if e.Value == "" {
		return b
	}
	return appendEntry(b, e.Key, tagString, []byte(e.Value))
}

func appendEntry(b []byte, key string, tag byte, value []byte) []byte {
	v := appendBytes(nil, tag, value)
	return appendBytes(b, tagFirst, appendBytes(appendBytes(nil, tagFirst, []byte(key)), tagSecond, v))
}

func appendBytes(b []byte, tag byte, v []byte) []byte {
	b = binary.AppendUvarint(append(b, tag), uint64(len(v)))
	return append(b, v...)
}

// typeURL is what the Any of the TCP exchange says it holds.
const typeURL = "type.googleapis.com/google.protobuf.Struct"

// magic begins a message of the TCP exchange.
const magic = 0x3D230467

// Message returns the message of the TCP exchange that tells of a peer.
func Message(p *stats.Peer, extra []Entry) []byte {
	value := appendBytes(appendBytes(nil, tagFirst, []byte(typeURL)), tagSecond, Encode(p, extra))
	b := binary.BigEndian.AppendUint32(nil, magic)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// DecodeAny returns the peer that the Any of a message tells of.
func DecodeAny(b []byte) (*stats.Peer, error) {
	var inner []byte
	err := fields(b, func(number int, v []byte) error {
		switch {
		case number == 1 && string(v) != typeURL:
			return errors.New("peer metadata: the message is no Struct")
		case number == 2:
			inner = v
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return Decode(inner)
}

var errWire = errors.New("peer metadata: malformed message")

// Decode returns the peer that a Struct tells of.
func Decode(b []byte) (*stats.Peer, error) {
	p := new(stats.Peer)
	err := entries(b, func(key string, value, nested []byte) error {
		switch key {
		case keyNamespace:
			p.Namespace = name(value)
		case keyWorkload:
			p.Workload = name(value)
		case keyCluster:
			p.Cluster = name(value)
		case keyLabels:
			return entries(nested, func(key string, value, _ []byte) error {
				switch key {
				case labelName:
					p.CanonicalService = name(value)
				case labelRevision:
					p.CanonicalRevision = name(value)
				case labelApp:
					p.App = name(value)
				case labelVersion:
					p.Version = name(value)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if p.CanonicalService == "" {
		p.CanonicalService = p.App
	}
	if p.CanonicalService == "" {
		p.CanonicalService = p.Workload
	}
	if p.CanonicalRevision == "" {
		if p.CanonicalRevision = p.Version; p.CanonicalRevision == "" {
			p.CanonicalRevision = "latest"
		}
	}
	return p, nil
}

// maxName is the longest name that is taken as a whole; Kubernetes' have at most 253 bytes.
const maxName = 253

// name is a name that anybody may have told: metrics keep it, and a scraper takes none that is not UTF-8.
func name(b []byte) string { return strings.ToValidUTF8(string(b[:min(len(b), maxName)]), "?") }

// entries calls f for the entries of a Struct: value is a string's, nested a Struct's bytes.
func entries(b []byte, f func(key string, value, nested []byte) error) error {
	return fields(b, func(number int, entry []byte) error {
		if number != 1 {
			return nil
		}
		var key string
		var value, nested []byte
		err := fields(entry, func(number int, v []byte) error {
			if number == 1 {
				key = string(v)
			}
			if number != 2 {
				return nil
			}
			return fields(v, func(kind int, v []byte) error {
				switch kind {
				case 3:
					value = v
				case 5:
					nested = v
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		return f(key, value, nested)
	})
}

// fields calls f for the length-delimited fields of a message and steps over the others.
func fields(b []byte, f func(number int, v []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return errWire
		}
		b = b[n:]
		switch tag & 7 {
		case 0:
			_, n := binary.Uvarint(b)
			if n <= 0 {
				return errWire
			}
			b = b[n:]
		case 1, 5:
			n := 8
			if tag&7 == 5 {
				n = 4
			}
			if len(b) < n {
				return errWire
			}
			b = b[n:]
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errWire
			}
			if err := f(int(tag>>3), b[n:n+int(size)]); err != nil {
				return err
			}
			b = b[n+int(size):]
		default:
			return errWire
		}
	}
	return nil
}
