package script_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// envWiretap makes the test binary a tool in the network between the pods:
// "listen" prints the payload of every TCP segment, "dial HOST:PORT" what
// certificate answers there.
const envWiretap = "MALLA_TEST_WIRETAP"

// wiretap is that tool.
func wiretap() {
	words := strings.Fields(os.Getenv(envWiretap))
	var err error
	switch words[0] {
	case "listen":
		err = listen()
	case "dial":
		err = dial(words[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dial(addr string) error {
	var uris []string
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 3 * time.Second}, Config: &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"istio-http/1.1", "istio", "http/1.1"}, // as our own clients

		VerifyConnection: func(s tls.ConnectionState) error {
			for _, u := range s.PeerCertificates[0].URIs {
				uris = append(uris, u.String())
			}
			return nil
		}}}
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err == nil {
		defer c.Close()
		// The server refuses a client without a certificate only now (RFC 8446, 4.4.2.4).
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	fmt.Println(strings.Join(uris, " "))
	fmt.Println("then:", err)
	return nil
}

// A segment is one TCP payload that passed.
type segment struct {
	From, To netip.AddrPort
	Data     []byte
}

func listen() error {
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM, int(binary.BigEndian.Uint16([]byte{8, 0}))) // ETH_P_IP in network order
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	proto := make([]byte, 2)
	binary.NativeEndian.PutUint16(proto, 0x0003) // ETH_P_ALL
	all := binary.BigEndian.Uint16(proto)
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	fmt.Println("listening")
	out := bufio.NewWriter(os.Stdout)
	for packet := make([]byte, 1<<16); ; {
		n, _, err := syscall.Recvfrom(fd, packet, 0)
		if err != nil {
			return err
		}
		if s, ok := parseSegment(packet[:n]); ok {
			fmt.Fprintln(out, s.From, s.To, base64.StdEncoding.EncodeToString(s.Data))
			out.Flush()
		}
	}
}

func parseSegment(p []byte) (segment, bool) {
	if len(p) < 40 || p[0]>>4 != 4 || p[9] != syscall.IPPROTO_TCP {
		return segment{}, false
	}
	head := int(p[0]&15) * 4
	total := int(binary.BigEndian.Uint16(p[2:]))
	if total > len(p) || head+20 > total {
		return segment{}, false
	}
	tcp := p[head:total]
	data := tcp[int(tcp[12]>>4)*4:]
	if len(data) == 0 {
		return segment{}, false
	}
	src, _ := netip.AddrFromSlice(p[12:16])
	dst, _ := netip.AddrFromSlice(p[16:20])
	return segment{netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])), data}, true
}

// inRouter runs this test binary as the tool in the mesh's router namespace.
func inRouter(t *testing.T, m *mesh.Mesh, what string) *exec.Cmd {
	t.Helper()
	router := 0
	for _, p := range m.Tree() {
		if p.Is("local", "supervise") {
			router = p.PID
		}
	}
	if router == 0 {
		t.Fatalf("no supervisor among %v", m.Tree())
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("nsenter is missing (package util-linux)")
		}
		t.Skip("nsenter is missing: install util-linux")
	}
	cmd := exec.Command(nsenter, "-t", strconv.Itoa(router), "-U", "-n", "--preserve-credentials", self)
	cmd.Env = append(os.Environ(), envWiretap+"="+what)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// tap records what passes between pods while f runs.
func tap(t *testing.T, m *mesh.Mesh, f func()) []segment {
	t.Helper()
	cmd := inRouter(t, m, "listen")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "listening" {
		t.Fatalf("the tap says %q", lines.Text())
	}
	var all []segment
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			w := strings.Fields(lines.Text())
			data, _ := base64.StdEncoding.DecodeString(w[2])
			all = append(all, segment{netip.MustParseAddrPort(w[0]), netip.MustParseAddrPort(w[1]), data})
		}
	}()
	f()
	mesh.Pause(200 * time.Millisecond) // what is still in the socket's queue
	_ = cmd.Process.Kill()
	<-done
	_ = cmd.Wait()
	return all
}
