//go:build !linux

package bench

import "context"

// Run returns ErrUnsupported: there is no epoll here.
func Run(context.Context, Config) (*Result, error) {
	return nil, ErrUnsupported
}
