// Package client dials servers over every transport of Millrace with one API:
// one-way messages, and requests with responses in both directions. The peer's
// messages arrive as a lossless sequence of events, one by one, or in callbacks. A
// client that only asks need not receive them.
//
//	c, err := client.Dial(ctx, "quic://127.0.0.1:8001")
//	answer, err := c.Request(ctx, []byte("What time is it?"))
//	err = c.Send([]byte("one way"))
//	m, err := c.Receive(ctx)
//	for ev := range c.Events() { … }
package client
