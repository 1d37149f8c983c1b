package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/client"
)

// call is one run of the call command.
type call struct {
	url      string
	payload  []byte
	insecure bool
	ca       string // file of the authorities; "" for the system's
	timeout  time.Duration
}

func newCall() *cobra.Command {
	var c call
	cmd := &cobra.Command{
		Use:   "call URL PAYLOAD",
		Short: "Send one request and print the answer",
		Long: "Send PAYLOAD as one request to the server at URL (tcp://, tls:// or quic://host:port,\n" +
			"ws:// or wss://host:port/path, or unix:///path) and print the payload of the answer, followed by a newline.",
		Example: "  millrace call quic://127.0.0.1:8001 hello --insecure",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("call takes the arguments URL and PAYLOAD, and got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.url, c.payload = args[0], []byte(args[1])
			if c.timeout <= 0 {
				return usagef("--timeout %v is not above 0", c.timeout)
			}
			if c.insecure && c.ca != "" {
				return usagef("--insecure verifies nothing, and --ca says by whom: choose")
			}
			err := c.run(cmd.OutOrStdout())
			switch {
			case err == nil:
				return nil
			case errors.Is(err, client.ErrBadURL):
				return usagef("argument URL %q: %w", c.url, err)
			}
			return fmt.Errorf("call %s: %w", c.url, err)
		},
	}
	cmd.Flags().BoolVar(&c.insecure, "insecure", false,
		"accept any certificate, such as the self-made one of a development server")
	cmd.Flags().StringVar(&c.ca, "ca", "", "PEM `FILE` of the authorities to verify the certificate by, instead of the system's")
	cmd.Flags().DurationVar(&c.timeout, "timeout", 5*time.Second, "give up after this `duration`")
	return cmd
}

// run dials, asks, and prints, all within c.timeout.
func (c *call) run(stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	answer, err := c.ask(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", c.timeout)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\n", answer)
	return err
}

func (c *call) ask(ctx context.Context) ([]byte, error) {
	var opts []client.Option
	switch {
	case c.insecure:
		opts = append(opts, client.WithTLS(&tls.Config{InsecureSkipVerify: true}))
	case c.ca != "":
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s holds no certificate", c.ca)
		}
		opts = append(opts, client.WithTLS(&tls.Config{RootCAs: roots}))
	}
	conn, err := client.Dial(ctx, c.url, opts...)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := conn.Request(ctx, c.payload)
	if err != nil {
		// After a failed call no data is left to send, and an orderly close must not
		// exceed the timeout.
		conn.Session().Abort(err)
	}
	return answer, err
}
