package torture_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/testkit"
)

// datagramFault is the effect of a shaker on a datagram.
type datagramFault uint8

const (
	dropped datagramFault = iota
	repeated
	late // so it is out of order
	datagramFaults
)

var datagramFaultNames = [datagramFaults]string{"dropped", "repeated", "late"}

// minInitial is the least size in bytes of a client's first datagram (RFC 9000 section
// 14.1).
const minInitial = 1200

// maxLate bounds how many datagrams a shaker holds back at a time.
const maxLate = 64

// shaker is a proxy for the datagrams of one QUIC client. It serves the first one that
// begins a handshake. Its port may have belonged to an earlier socket, so it may receive
// datagrams of others, for example from a server whose client has vanished.
type shaker struct {
	run       *run
	near, far *net.UDPConn
	client    atomic.Pointer[netip.AddrPort]
	held      atomic.Int64
	work      sync.WaitGroup
}

// newShaker makes a shaker in front of target.
func newShaker(r *run, target string, seed uint64) (*shaker, error) {
	near, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	far, err := net.Dial("udp4", target)
	if err != nil {
		near.Close()
		return nil, err
	}
	k := &shaker{run: r, near: near, far: far.(*net.UDPConn)}
	k.work.Go(func() { k.up(rand.New(rand.NewPCG(seed, 4))) })
	k.work.Go(func() { k.down(rand.New(rand.NewPCG(seed, 5))) })
	return k, nil
}

func (k *shaker) addr() string { return k.near.LocalAddr().String() }

// close ends the shaker and waits for its goroutines.
func (k *shaker) close() {
	k.near.Close()
	k.far.Close()
	k.work.Wait()
}

func (k *shaker) up(r *rand.Rand) {
	server := k.far.RemoteAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := k.near.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		switch client := k.client.Load(); {
		case client == nil && n >= minInitial && from != server:
			k.client.Store(&from)
		case client == nil || from != *client:
			continue
		}
		k.pass(r, buf[:n], func(b []byte) { _, _ = k.far.Write(b) })
	}
}

// TestShakerServesOneClient sends datagrams of others to a shaker, before and after its
// client's: they must not reach the server, and answers must still reach the client.
func TestShakerServesOneClient(t *testing.T) {
	target, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	k, err := newShaker(&run{t: t}, target.LocalAddr().String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	dial := func() net.Conn {
		c, err := net.Dial("udp4", k.addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	client, other := dial(), dial()
	received := make([]byte, 2*minInitial)
	large := make([]byte, minInitial)
	first := bytes.Repeat([]byte("first"), minInitial/5)
	for range 20 { // a shaker loses some
		_, _ = other.Write([]byte("other"))
		_, _ = target.WriteToUDP(large, k.near.LocalAddr().(*net.UDPAddr))
		_, _ = client.Write(first)
		_, _ = other.Write([]byte("other"))
	}
	for range 20 {
		_ = target.SetReadDeadline(time.Now().Add(testkit.Patience))
		n, from, err := target.ReadFromUDP(received)
		if err != nil || string(received[:n]) != string(first) {
			t.Fatalf("%q, %v", received[:n], err)
		}
		_, _ = target.WriteToUDP([]byte("answer"), from)
		_ = client.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err = client.Read(received); err == nil && string(received[:n]) == "answer" {
			return
		}
	}
	t.Fatal("no answer")
}

func (k *shaker) down(r *rand.Rand) {
	buf := make([]byte, 64<<10)
	for {
		n, err := k.far.Read(buf)
		if err != nil {
			return
		}
		if to := k.client.Load(); to != nil {
			k.pass(r, buf[:n], func(b []byte) { _, _ = k.near.WriteToUDPAddrPort(b, *to) })
		}
	}
}

// pass sends b zero, one or two times, now or later.
func (k *shaker) pass(r *rand.Rand, b []byte, send func([]byte)) {
	switch n := r.IntN(100); {
	case n < 2:
		k.run.packets[dropped].Add(1)
	case n < 4:
		k.run.packets[repeated].Add(1)
		send(b)
		send(b)
	case n < 7 && k.held.Add(1) <= maxLate:
		k.run.packets[late].Add(1)
		b = append([]byte(nil), b...)
		wait := time.Duration(1+r.IntN(15)) * time.Millisecond
		k.work.Go(func() {
			defer k.held.Add(-1)
			time.Sleep(wait) // so that it arrives after later ones
			send(b)
		})
	default:
		if n < 7 {
			k.held.Add(-1)
		}
		send(b)
	}
}
