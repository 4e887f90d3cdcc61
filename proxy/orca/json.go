package orca

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"strconv"
)

// jsonNames are the fields and maps in both spellings of protobuf's JSON.
var jsonNames = map[string]string{
	"cpu_utilization": "cpu_utilization", "cpuUtilization": "cpu_utilization",
	"mem_utilization": "mem_utilization", "memUtilization": "mem_utilization",
	"application_utilization": "application_utilization", "applicationUtilization": "application_utilization",
	"rps_fractional": "rps_fractional", "rpsFractional": "rps_fractional",
	"eps": "eps", "rps": "rps",
	"named_metrics": inNamed, "namedMetrics": inNamed,
	"utilization":  inUtilization,
	"request_cost": inCost, "requestCost": inCost,
}

// json reads the message as protobuf writes it in JSON. Unlike in text, numbers may be below 0. It reads token by token,
// so that what a host nests is not built.
func (r *Report) json(b []byte, wanted Metrics) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	err := object(d, func(key string) error {
		name, ok := jsonNames[key]
		if !ok {
			return errName
		}
		return r.member(d, name, wanted)
	})
	if err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errJSON
	}
	return nil
}

// object reads an object whose members each reads.
func object(d *json.Decoder, each func(key string) error) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errJSON
	}
	return members(d, each)
}

func members(d *json.Decoder, each func(key string) error) error {
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return errJSON
		}
		if err := each(key); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errJSON
	}
	return nil
}

// member reads the value of a field or the members of a map; null leaves either as it is.
func (r *Report) member(d *json.Decoder, name string, wanted Metrics) error {
	t, err := d.Token()
	if err != nil {
		return errJSON
	}
	if t == nil {
		return nil
	}
	if name[len(name)-1] == '.' {
		if t != json.Delim('{') {
			return errJSON
		}
		return members(d, func(key string) error {
			t, err := d.Token()
			if err != nil {
				return errJSON
			}
			v, err := double(t)
			if err == nil {
				r.note(name, []byte(key), v, wanted)
			}
			return err
		})
	}
	v, err := double(t)
	switch {
	case err != nil:
		return err
	case name != "rps":
		*r.field([]byte(name)) = v
	case v < 0 || v != math.Trunc(v) || v >= 1<<64: // an integer, which nobody reads
		return errJSON
	}
	return nil
}

// double reads a number, which may stand in quotes.
func double(t json.Token) (float64, error) {
	s, quoted := t.(string)
	if n, ok := t.(json.Number); ok {
		s = n.String()
	} else if !quoted {
		return 0, errJSON
	}
	switch s {
	case "NaN":
		return math.NaN(), nil
	case "Infinity":
		return math.Inf(1), nil
	case "-Infinity":
		return math.Inf(-1), nil
	}
	if quoted && !json.Valid([]byte(s)) { // what Go takes beyond JSON's numbers
		return 0, errJSON
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, errJSON
	}
	return v, nil
}
