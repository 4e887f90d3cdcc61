package access

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/header"
)

// requestedServerName compiles REQUESTED_SERVER_NAME(WHICH:HOST): the name of TLS, or the host of the request in its
// place (SNI_FIRST) or instead of it (HOST_FIRST).
func requestedServerName(c command) (*op, error) {
	which, from, _ := strings.Cut(c.arg, ":")
	o := &op{length: -1, token: header.TokenOfString("x-envoy-original-host"), name: []byte("x-envoy-original-host"), alt: []byte(":authority")}
	switch from {
	case "", "ORIG_OR_HOST":
	case "ORIG":
		o.alt = nil
	case "HOST":
		o.token, o.name, o.alt = header.Authority, o.alt, nil
	default:
		return nil, fmt.Errorf("argument %q, want ORIG, HOST or ORIG_OR_HOST after the colon", c.arg)
	}
	sni := func(_ *op, dst []byte, r *Record) ([]byte, bool) { return append(dst, r.SNI...), r.SNI != "" }
	host := func(o *op, dst []byte, r *Record) ([]byte, bool) {
		v, ok := o.lookup(r.Request)
		return append(dst, v...), ok && len(v) > 0
	}
	switch which {
	case "", "SNI_ONLY":
		o.write = sni
	case "HOST_FIRST":
		o.write = host
	case "SNI_FIRST":
		o.write = func(o *op, dst []byte, r *Record) ([]byte, bool) {
			if r.SNI != "" {
				return sni(o, dst, r)
			}
			return host(o, dst, r)
		}
	default:
		return nil, fmt.Errorf("argument %q, want SNI_ONLY, SNI_FIRST or HOST_FIRST first", c.arg)
	}
	return o, nil
}

// maskedOp is addressOp without the port, with the length of a prefix that the address is masked to:
// %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)% is 10.1.0.0/16. A longer one than the address has is all of it.
func maskedOp(of func(*Record) netip.AddrPort) operator {
	return operator{argument: mayArgument, compile: func(c command) (*op, error) {
		if !c.hasArg {
			return addressOp(of, withoutPort).compile(c)
		}
		bits, err := strconv.ParseUint(c.arg, 10, 8)
		if err != nil || bits > 128 {
			return nil, fmt.Errorf("argument %q, want the length of a prefix, up to 32 or 128", c.arg)
		}
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			a := of(r).Addr().Unmap()
			if !a.IsValid() {
				return dst, false
			}
			return netip.PrefixFrom(a, min(int(bits), a.BitLen())).Masked().AppendTo(dst), true
		}}, nil
	}}
}

// attempted lists the hosts that were tried. Of a request that is the last one, if it was reached, as in Envoy, whose
// list begins anew with each retry.
func attempted(form addressForm, name bool) operator {
	return operator{compile: func(c command) (*op, error) {
		write := addressOp(func(r *Record) netip.AddrPort { return r.UpstreamHost }, form)
		if name {
			write = operator{compile: hostName(form)}
		}
		o, err := write.compile(c)
		if err != nil {
			return nil, err
		}
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			if r.UpstreamConnID == 0 && r.Request != nil {
				return dst, false
			}
			for i := range r.Earlier {
				a := &r.Earlier[i]
				if name {
					dst = appendName(dst, a.Name, a.Addr, form)
				} else {
					dst = appendAddress(dst, a.Addr, form)
				}
				dst = append(dst, ',')
			}
			return o.append(dst, r)
		}}, nil
	}}
}
