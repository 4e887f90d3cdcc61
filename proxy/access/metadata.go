package access

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/metadata"
)

// metadataOp compiles an operator that writes metadata: NAMESPACE:NAME:NAME... of what of finds.
func metadataOp(of func(r *Record, namespace string) (metadata.Struct, bool)) func(command) (*op, error) {
	return func(c command) (*op, error) {
		parts := strings.Split(c.arg, ":")
		path, namespace := parts[1:], parts[0]
		find := func(r *Record) (any, bool) {
			fields, ok := of(r, namespace)
			if !ok {
				return nil, false
			}
			v, ok := metadata.Lookup(fields, path)
			return v, ok && v != nil
		}
		return &op{
			length: c.length,
			write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
				v, ok := find(r)
				if !ok {
					return dst, false
				}
				from := len(dst)
				if text, isText := v.(string); isText {
					dst = append(dst, text...)
				} else {
					dst = AppendJSON(dst, v)
				}
				return dst[:from+len(o.cut(dst[from:]))], true
			},
			typed: func(o *op, dst []byte, r *Record) ([]byte, bool) {
				v, ok := find(r)
				if !ok {
					return dst, false
				}
				if text, isText := v.(string); isText {
					return appendQuoted(dst, o.cut([]byte(text))), true
				}
				return AppendJSON(dst, v), true
			},
		}, nil
	}
}

func dynamic(r *Record, namespace string) (metadata.Struct, bool) { return r.Dynamic.Space(namespace) }

func configured(k metadata.Kind) func(*Record, string) (metadata.Struct, bool) {
	return func(r *Record, namespace string) (metadata.Struct, bool) { return r.Configured[k].Space(namespace) }
}

func ofCluster(r *Record, namespace string) (metadata.Struct, bool) {
	return r.ClusterMetadata().Space(namespace)
}

// metadataKinds are the words of METADATA(KIND:...).
var metadataKinds = map[string]func(*Record, string) (metadata.Struct, bool){
	"DYNAMIC": dynamic, "ROUTE": configured(metadata.Route), "VIRTUAL_HOST": configured(metadata.VirtualHost),
	"CLUSTER": ofCluster, "UPSTREAM_HOST": configured(metadata.Host),
	"LISTENER": configured(metadata.Listener), "LISTENER_FILTER_CHAIN": configured(metadata.Chain),
}

// anyMetadata compiles METADATA(KIND:NAMESPACE:NAME...).
func anyMetadata(c command) (*op, error) {
	kind, rest, _ := strings.Cut(c.arg, ":")
	of := metadataKinds[kind]
	if of == nil {
		return nil, fmt.Errorf("argument %q, want one of %s and a colon first", c.arg, strings.Join(slices.Sorted(maps.Keys(metadataKinds)), ", "))
	}
	c.arg = rest
	return metadataOp(of)(c)
}

// AppendJSON appends a value of metadata as JSON, with names in order, as Envoy writes it.
func AppendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case float64:
		return appendNumber(dst, v)
	case string:
		return appendQuoted(dst, []byte(v))
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSON(dst, item)
		}
		return append(dst, ']')
	case metadata.Struct:
		dst = append(dst, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, []byte(name)), ':')
			dst = AppendJSON(dst, v[name])
		}
		return append(dst, '}')
	}
	panic(fmt.Sprintf("access: a value of metadata is a %T", v))
}

// appendNumber appends a number in the shorter of its two forms, with an exponent or without, as C++'s to_chars does.
func appendNumber(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...) // JSON has no such number
	}
	var plain, exponent [32]byte
	e := strconv.AppendFloat(exponent[:0], f, 'e', -1, 64)
	if a := math.Abs(f); f != 0 && (a >= 1e25 || a < 1e-9) {
		return append(dst, e...) // the other is longer in any case, and may be very long
	}
	if p := strconv.AppendFloat(plain[:0], f, 'f', -1, 64); len(p) <= len(e) {
		return append(dst, p...)
	}
	return append(dst, e...)
}
