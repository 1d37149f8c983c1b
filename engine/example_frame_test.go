package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"sync"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// A frame is encoded once, and shared by the sessions of all protocols.
func ExampleSession_SendFrame() {
	var mu sync.Mutex
	var room []*engine.Session
	h := engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		mu.Lock()
		defer mu.Unlock()
		room = append(room, s)
		welcome := engine.NewFrame(&engine.Message{Payload: fmt.Appendf(nil, "%s is here", m.Payload)})
		for _, s := range room {
			if err := s.SendFrame(welcome); err != nil {
				fmt.Println(err)
			}
		}
	})
	e := engine.New(engine.Config{Handler: h})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", engine.Framed(framing.Line{}))
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"Ada", "Grace"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintln(c, name)
		line, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Printf("%s reads: %s", name, line)
	}
	// Output:
	// Ada reads: Ada is here
	// Grace reads: Grace is here
}

// SendOwned passes a large payload on without a copy, and gives it back when it is
// written.
func ExampleSession_SendOwned() {
	pool := sync.Pool{New: func() any { return new([64 << 10]byte) }}
	released := make(chan bool)
	h := engine.HandlerFunc(func(s *engine.Session, _ *engine.Message) {
		buf := pool.Get().(*[64 << 10]byte)
		copy(buf[:], "a large report")
		err := s.SendOwned(buf[:], func() {
			pool.Put(buf)
			released <- true
		})
		if err != nil { // buf is released even so
			fmt.Println(err)
		}
	})
	e := engine.New(engine.Config{Handler: h})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", engine.Framed(framing.Raw{}))
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "report, please")
	report := make([]byte, 64<<10)
	_, err = io.ReadFull(c, report)
	fmt.Println(string(report[:14]), err, <-released)
	// Output: a large report <nil> true
}
