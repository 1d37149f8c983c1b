//go:build !linux

package cpu

import "errors"

func pin(int) error { return errors.ErrUnsupported }
