package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Match is a part of a rule: a condition, or the statement at its end.
type Match []expr.Any

// A Batch collects changes of one table that the kernel makes all at once or
// not at all.
type Batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	err   error
}

// NewBatch starts a batch for the table of family inet in the current network
// namespace, which is made if it is not there.
func NewBatch(table string) (*Batch, error) { return newBatch(table) }

// NewBatchIn is NewBatch for the network namespace with descriptor ns.
func NewBatchIn(ns int, table string) (*Batch, error) {
	return newBatch(table, nftables.WithNetNSFd(ns))
}

func newBatch(table string, opts ...nftables.ConnOption) (*Batch, error) {
	// Every message of a batch is acknowledged; the kernel gives us as much room as
	// it allows.
	opts = append(opts, nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetReadBuffer(1 << 20) }))
	c, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	b := &Batch{conn: c}
	b.table = c.AddTable(&nftables.Table{Name: table, Family: nftables.TableFamilyINet})
	return b, nil
}

// Commit makes the changes.
func (b *Batch) Commit() error {
	if b.err != nil {
		return b.err
	}
	if err := b.conn.Flush(); err != nil {
		return fmt.Errorf("change nftables table %s: %w", b.table.Name, err)
	}
	return nil
}

// A Chain is a list of rules.
type Chain struct {
	b *Batch
	c *nftables.Chain
}

// Chain adds or names a chain that others jump to.
func (b *Batch) Chain(name string) *Chain {
	return &Chain{b, b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table})}
}

// NAT adds a chain that translates addresses of new connections.
func (b *Batch) NAT(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *Chain {
	return &Chain{b, b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority})}
}

// Filter adds a chain that sees every packet.
func (b *Batch) Filter(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *Chain {
	return &Chain{b, b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: priority})}
}

// Reroute adds a chain for what this network namespace sends: a packet whose mark changes there is routed anew.
func (b *Batch) Reroute(name string, priority *nftables.ChainPriority) *Chain {
	return &Chain{b, b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: nftables.ChainTypeRoute, Hooknum: nftables.ChainHookOutput, Priority: priority})}
}

// Delete removes the chain, to which nothing may lead.
func (c *Chain) Delete() { c.b.conn.DelChain(c.c) }

// Flush removes the chain's rules.
func (c *Chain) Flush() { c.b.conn.FlushChain(c.c) }

// Add adds a rule.
func (c *Chain) Add(parts ...Match) {
	var exprs []expr.Any
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	c.b.conn.AddRule(&nftables.Rule{Table: c.b.table, Chain: c.c, Exprs: exprs})
}

func cmp(op expr.CmpOp, data []byte) expr.Any { return &expr.Cmp{Op: op, Register: 1, Data: data} }

// Proto matches the transport protocol: unix.IPPROTO_TCP.
func Proto(p byte) Match {
	return Match{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, cmp(expr.CmpOpEq, []byte{p})}
}

// NotProto is the opposite of Proto.
func NotProto(p byte) Match {
	return Match{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, cmp(expr.CmpOpNeq, []byte{p})}
}

// DstPort matches the destination port; Proto must stand before it.
func DstPort(port uint16) Match { return dstPort(expr.CmpOpEq, port) }

// NotDstPort is the opposite of DstPort.
func NotDstPort(port uint16) Match { return dstPort(expr.CmpOpNeq, port) }

func dstPort(op expr.CmpOp, port uint16) Match {
	return Match{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		cmp(op, binaryutil.BigEndian.PutUint16(port)),
	}
}

// family matches IPv4 or IPv6.
func family(v4 bool) Match {
	f := byte(unix.NFPROTO_IPV6)
	if v4 {
		f = unix.NFPROTO_IPV4
	}
	return Match{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, cmp(expr.CmpOpEq, []byte{f})}
}

// Offsets of addresses in the IPv4 and IPv6 headers.
const (
	src4, dst4 = 12, 16
	src6, dst6 = 8, 24
)

// Dst matches the destination address, and by it the family.
func Dst(p netip.Prefix) Match { return address(expr.CmpOpEq, p, dst4, dst6) }

// NotDst matches the other addresses of the prefix's family.
func NotDst(p netip.Prefix) Match { return address(expr.CmpOpNeq, p, dst4, dst6) }

// Src matches the source address.
func Src(p netip.Prefix) Match { return address(expr.CmpOpEq, p, src4, src6) }

// Host is the prefix of one address.
func Host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func address(op expr.CmpOp, p netip.Prefix, off4, off6 uint32) Match {
	p = p.Masked()
	v4, size, offset := p.Addr().Is4(), uint32(16), off6
	if v4 {
		size, offset = 4, off4
	}
	m := append(family(v4), &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size})
	if p.Bits() < p.Addr().BitLen() {
		mask := make([]byte, size)
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		m = append(m, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)})
	}
	return append(m, cmp(op, p.Addr().AsSlice()))
}

// loopback is the index of lo in every network namespace.
const loopback = 1

// OutLoopback matches packets that leave by lo.
func OutLoopback() Match {
	return Match{&expr.Meta{Key: expr.MetaKeyOIF, Register: 1}, cmp(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(loopback))}
}

// InLoopback matches packets that come by lo.
func InLoopback() Match {
	return Match{&expr.Meta{Key: expr.MetaKeyIIF, Register: 1}, cmp(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(loopback))}
}

// Mark matches packets of sockets with this SO_MARK.
func Mark(m uint32) Match { return mark(expr.CmpOpEq, m) }

// NotMark is the opposite of Mark.
func NotMark(m uint32) Match { return mark(expr.CmpOpNeq, m) }

func mark(op expr.CmpOp, m uint32) Match {
	return Match{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, cmp(op, binaryutil.NativeEndian.PutUint32(m))}
}

// SetMark gives the packet another mark.
func SetMark(m uint32) Match {
	return Match{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(m)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// ConnMark matches packets whose connection has the mark.
func ConnMark(m uint32) Match {
	return Match{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, cmp(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(m))}
}

// SetConnMark gives the packet's connection a mark, by which its answers are known.
func SetConnMark(m uint32) Match {
	return Match{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(m)},
		&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1},
	}
}

// TProxy gives a packet to the transparent socket of its connection, or to the one that listens on the port, and
// leaves its addresses as they are. A connection that another socket has is left to that: the rule ends there.
func TProxy(port uint16) Match {
	return Match{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.TProxy{RegPort: 1}, // of both families
	}
}

// FromTransparent matches packets of a socket that may have an address that is not this network namespace's.
func FromTransparent() Match {
	return Match{&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}, cmp(expr.CmpOpEq, []byte{1})}
}

// Accept ends the packet's way through the hook's chains of this priority.
func Accept() Match { return Match{&expr.Verdict{Kind: expr.VerdictAccept}} }

// DstType matches what the routing table says of the destination: unix.RTN_LOCAL.
func DstType(t uint32) Match { return addrType(expr.CmpOpEq, t) }

// NotDstType is the opposite of DstType.
func NotDstType(t uint32) Match { return addrType(expr.CmpOpNeq, t) }

func addrType(op expr.CmpOp, t uint32) Match {
	return Match{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		cmp(op, binaryutil.NativeEndian.PutUint32(t)),
	}
}

// NoRoute matches packets whose destination no route leads to, or an
// unreachable one. (DstType looks into the local table only, for IPv4.)
func NoRoute() Match {
	return Match{
		&expr.Fib{Register: 1, ResultOIF: true, FlagDADDR: true},
		cmp(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(0)),
	}
}

// Return leaves the chain; in a base chain the packet goes on unchanged.
func Return() Match { return Match{&expr.Verdict{Kind: expr.VerdictReturn}} }

// Jump goes through another chain.
func Jump(chain string) Match { return Match{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}} }

// ResetTCP answers with RST.
func ResetTCP() Match {
	return Match{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
}

// Redirect sends connections to a port of this network namespace.
func Redirect(port uint16) Match {
	return Match{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

// DNAT sends connections to another destination; SNAT gives them another source address.
func DNAT(to netip.AddrPort) Match {
	return Match{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: regPort(to.Addr().Is4()), Data: binaryutil.BigEndian.PutUint16(to.Port())},
		&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: nfFamily(to.Addr().Is4()), RegAddrMin: 1,
			RegProtoMin: regPort(to.Addr().Is4()), Specified: true,
		},
	}
}

// SNAT gives connections another source address.
func SNAT(to netip.Addr) Match {
	return Match{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: nfFamily(to.Is4()), RegAddrMin: 1},
	}
}

func nfFamily(v4 bool) uint32 {
	if v4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// regPort is the 32-bit register that follows an address in register 1.
func regPort(v4 bool) uint32 {
	if v4 {
		return unix.NFT_REG32_01
	}
	return unix.NFT_REG32_04
}

// Spread sends each connection to one of the targets, all equally likely. They
// are of one family, at least one.
func (b *Batch) Spread(targets []netip.AddrPort) Match {
	if len(targets) == 1 {
		return DNAT(targets[0])
	}
	v4 := targets[0].Addr().Is4()
	addrType := nftables.TypeIP6Addr
	if v4 {
		addrType = nftables.TypeIPAddr
	}
	dataType, err := nftables.ConcatSetType(addrType, nftables.TypeInetService)
	if err != nil {
		b.err = errors.Join(b.err, err)
		return nil
	}
	set := &nftables.Set{
		Table: b.table, Anonymous: true, Constant: true, IsMap: true,
		KeyType: nftables.TypeInteger, KeyByteOrder: binaryutil.NativeEndian, DataType: dataType,
	}
	elements := make([]nftables.SetElement, len(targets))
	for i, t := range targets {
		val := append(t.Addr().AsSlice(), binaryutil.BigEndian.PutUint16(t.Port())...)
		elements[i] = nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: append(val, 0, 0)}
	}
	if err := b.conn.AddSet(set, elements); err != nil {
		b.err = errors.Join(b.err, err)
		return nil
	}
	return Match{
		&expr.Numgen{Register: 1, Modulus: uint32(len(targets)), Type: unix.NFT_NG_RANDOM},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: nfFamily(v4), RegAddrMin: 1, RegProtoMin: regPort(v4), Specified: true},
	}
}

// A Dispatch is a named map from (destination address of one family, protocol,
// port) to a chain.
type Dispatch struct {
	name string
	v4   bool
}

// Dispatch adds or names such a map.
func (b *Batch) Dispatch(name string, v4 bool) Dispatch {
	d := Dispatch{name, v4}
	if err := b.conn.AddSet(b.dispatchSet(d), nil); err != nil {
		b.err = errors.Join(b.err, err)
	}
	return d
}

func (b *Batch) dispatchSet(d Dispatch) *nftables.Set {
	addr := nftables.TypeIP6Addr
	if d.v4 {
		addr = nftables.TypeIPAddr
	}
	key, err := nftables.ConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService)
	if err != nil {
		b.err = errors.Join(b.err, err)
	}
	return &nftables.Set{Table: b.table, Name: d.name, IsMap: true, KeyType: key, DataType: nftables.TypeVerdict, Concatenation: true}
}

// Route sends connections to a destination through a chain; there must be no
// other for it.
func (b *Batch) Route(d Dispatch, dst netip.AddrPort, proto byte, chain string) {
	e := nftables.SetElement{Key: dispatchKey(dst, proto), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
	if err := b.conn.SetAddElements(b.dispatchSet(d), []nftables.SetElement{e}); err != nil {
		b.err = errors.Join(b.err, err)
	}
}

// Unroute takes back a Route.
func (b *Batch) Unroute(d Dispatch, dst netip.AddrPort, proto byte) {
	e := nftables.SetElement{Key: dispatchKey(dst, proto)}
	if err := b.conn.SetDeleteElements(b.dispatchSet(d), []nftables.SetElement{e}); err != nil {
		b.err = errors.Join(b.err, err)
	}
}

// dispatchKey pads each part to four bytes, as registers are.
func dispatchKey(dst netip.AddrPort, proto byte) []byte {
	key := append(dst.Addr().AsSlice(), proto, 0, 0, 0)
	return append(key, byte(dst.Port()>>8), byte(dst.Port()), 0, 0)
}

// To goes through the chain that the map has for the packet, if any.
func (d Dispatch) To() Match {
	size, offset, second := uint32(16), uint32(dst6), uint32(unix.NFT_REG32_04)
	if d.v4 {
		size, offset, second = 4, dst4, unix.NFT_REG32_01
	}
	return append(family(d.v4),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: second},
		&expr.Payload{DestRegister: second + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: d.name},
	)
}

// A Pairs is a named set of (source, destination) address pairs of one family.
type Pairs struct {
	name string
	v4   bool
}

// Pairs adds or names such a set.
func (b *Batch) Pairs(name string, v4 bool) Pairs {
	if err := b.conn.AddSet(b.pairSet(name, v4), nil); err != nil {
		b.err = errors.Join(b.err, err)
	}
	return Pairs{name, v4}
}

func (b *Batch) pairSet(name string, v4 bool) *nftables.Set {
	t := nftables.TypeIP6Addr
	if v4 {
		t = nftables.TypeIPAddr
	}
	key, err := nftables.ConcatSetType(t, t)
	if err != nil {
		b.err = errors.Join(b.err, err)
	}
	return &nftables.Set{Table: b.table, Name: name, KeyType: key, Concatenation: true}
}

// AddPair adds to a set that exists.
func (b *Batch) AddPair(p Pairs, src, dst netip.Addr) {
	if err := b.conn.SetAddElements(b.pairSet(p.name, p.v4), pair(src, dst)); err != nil {
		b.err = errors.Join(b.err, err)
	}
}

// RemovePair removes from a set; the pair must be in it.
func (b *Batch) RemovePair(p Pairs, src, dst netip.Addr) {
	if err := b.conn.SetDeleteElements(b.pairSet(p.name, p.v4), pair(src, dst)); err != nil {
		b.err = errors.Join(b.err, err)
	}
}

func pair(src, dst netip.Addr) []nftables.SetElement {
	return []nftables.SetElement{{Key: append(src.AsSlice(), dst.AsSlice()...)}}
}

// In matches packets whose source and destination are a pair of the set.
func (p Pairs) In() Match {
	size, so, do, second := uint32(16), uint32(src6), uint32(dst6), uint32(unix.NFT_REG32_04)
	if p.v4 {
		size, so, do, second = 4, src4, dst4, unix.NFT_REG32_01
	}
	return append(family(p.v4),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: so, Len: size},
		&expr.Payload{DestRegister: second, Base: expr.PayloadBaseNetworkHeader, Offset: do, Len: size},
		&expr.Lookup{SourceRegister: 1, SetName: p.name},
	)
}
