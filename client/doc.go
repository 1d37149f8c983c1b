// Package client dials servers over every transport that Millrace has, with one
// API: messages one way, requests and responses in both directions, and what
// the peer sends as a lossless sequence of events or as callbacks.
//
//	c, err := client.Dial(ctx, "quic://127.0.0.1:8001")
//	answer, err := c.Request(ctx, []byte("What time is it?"))
//	err = c.Send([]byte("one way"))
//	for ev := range c.Events() { … }
package client
