package drive

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// A tlsPeer is a client on a pipe. It moves the loop when it waits for something.
type tlsPeer struct {
	net.Conn // nil: what is not overridden is not called
	m        *Memory
	p        *Pipe
	in       bytes.Buffer
}

func (c *tlsPeer) Read(b []byte) (int, error) {
	for range 100 {
		c.in.WriteString(c.p.Take())
		if c.in.Len() > 0 {
			return c.in.Read(b)
		}
		c.m.Step()
	}
	return 0, io.ErrUnexpectedEOF
}
func (c *tlsPeer) Write(b []byte) (int, error) { return c.p.Write(b) }
func (c *tlsPeer) SetDeadline(time.Time) error { return nil }

// keys encrypts records with a traffic secret (RFC 8446, section 7), which crypto/tls would not do for us.
type keys struct {
	secret, iv []byte
	seal       cipher.AEAD
}

func expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append(append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...), 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		panic(err)
	}
	return out
}

func newKeys(secret []byte) keys {
	block, _ := aes.NewCipher(expand(secret, "key", 16))
	seal, _ := cipher.NewGCM(block)
	return keys{secret, expand(secret, "iv", 12), seal}
}

// update is a byte, a record that asks for a new key, which are the first two under these keys, and the keys after it. The
// byte is there because crypto/tls ends a connection on which nothing but such records comes.
func (k keys) update() ([]byte, keys) {
	records := k.record(nil, 0, 'x', 23)
	records = k.record(records, 1, 24, 0, 0, 1, 1, 22) // key_update, update_requested; handshake
	return records, newKeys(expand(k.secret, "traffic upd", 32))
}

// record appends the n-th record under these keys.
func (k keys) record(dst []byte, n byte, plain ...byte) []byte {
	nonce := bytes.Clone(k.iv)
	nonce[len(nonce)-1] ^= n
	head := []byte{23, 3, 3, 0, byte(len(plain) + 16)}
	return k.seal.Seal(append(dst, head...), nonce, plain, head)
}

// secured is a client with TLS, and its keys.
func secured(t *testing.T) (*Memory, *Pipe, *script, keys) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMemory(time.Now())
	s := &script{}
	p := m.Accept(there, here, func(c *Conn) {
		c.SetHandler(s)
		c.StartTLS(true, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}, SessionTicketsDisabled: true}, time.Minute, func(*Conn, error) {})
	})
	var log bytes.Buffer
	client := tls.Client(&tlsPeer{m: m, p: p}, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, KeyLogWriter: &log})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	m.Step()
	if client.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("crypto/tls has chosen another cipher than AES-128, whose records this test cannot make")
	}
	_, line, _ := strings.Cut(log.String(), "CLIENT_TRAFFIC_SECRET_0 ")
	secret, err := hex.DecodeString(strings.Fields(line)[1])
	if err != nil {
		t.Fatal(err)
	}
	return m, p, s, newKeys(secret)
}

// A client that asks for new keys without end and takes no answer costs no memory without end.
func TestKeyUpdatesStop(t *testing.T) {
	m, p, s, k := secured(t)
	p.Window = 1
	for range 400 {
		for range 100 {
			var record []byte
			record, k = k.update()
			p.Write(record)
		}
		if m.Step(); p.Closed {
			if got := s.notes[len(s.notes)-1]; got != "close "+errAnswers.Error() {
				t.Errorf("the handler was told %q", got)
			}
			return
		}
	}
	buffered := 0
	m.Loop.Each(func(c *Conn) bool { buffered += c.Buffered(); return true })
	t.Errorf("%d bytes of answers wait for a client that takes none, and the connection goes on", buffered)
}

// One that takes the answers may ask as often as it likes, and has them at once.
func TestKeyUpdatesAreAnswered(t *testing.T) {
	m, p, s, k := secured(t)
	for range 5000 {
		var record []byte
		record, k = k.update()
		p.Write(record)
		if m.Step(); len(p.Take()) == 0 {
			t.Fatalf("no answer after %q", s.notes)
		}
	}
	if len(s.notes) != 5000 || p.Closed {
		t.Errorf("%d bytes came, closed %v; want 5000 and no", len(s.notes), p.Closed)
	}
}

// What stands before the end of a connection is taken before the end is told, however often the handler says "not now".
func TestEndOfTLSWaitsForTheDataBeforeIt(t *testing.T) {
	for _, stop := range []func(*Conn){(*Conn).Yield, (*Conn).Pause} {
		m, p, s, k := secured(t)
		var conn *Conn
		s.data = func(c *Conn, b []byte) int {
			conn = c
			stop(c)
			return 2
		}
		p.Write(k.record(k.record(nil, 0, 'a', 'b', 'c', 'd', 23), 1, 1, 0, 21)) // a warning: close_notify
		for range 3 {
			m.Step()
			conn.Resume()
		}
		m.Step()
		want(t, s, "data abcd", "data cd", "end")
	}
}
