// Echoclient asks an echo server over each of its transports, several questions at once.
// Start the server in another terminal, and then the client:
//
//	go run ./cmd/echo --tls-self-signed
//	go run ./examples/echoclient -insecure
//
// The URLs of another server may be arguments.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/client"
)

var urls = []string{"tcp://127.0.0.1:8001", "tls://127.0.0.1:8001", "ws://127.0.0.1:8001/ws", "wss://127.0.0.1:8001/ws",
	"quic://127.0.0.1:8001"}

func main() {
	insecure := flag.Bool("insecure", false, "accept any certificate, such as the self-signed one of cmd/echo")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if flag.NArg() > 0 {
		urls = flag.Args()
	}
	for _, url := range urls {
		if err := ask(ctx, os.Stdout, url, &tls.Config{InsecureSkipVerify: *insecure}); err != nil {
			log.Fatalf("%s: %v", url, err)
		}
	}
}

// ask dials the server at url, sends three requests at once, and prints their answers.
func ask(ctx context.Context, out io.Writer, url string, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, url, client.WithTLS(config)) // WithTLS is for tls, wss and quic
	if err != nil {
		return err
	}
	defer c.Close()

	var wg sync.WaitGroup
	var answers [3][]byte
	var errs [3]error
	for i := range answers {
		wg.Go(func() { answers[i], errs[i] = c.Request(ctx, fmt.Appendf(nil, "question %d", i)) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s from %v: %s\n", c.Session().Transport(), c.Session().RemoteAddr(), answers[i])
	}
	return nil
}
