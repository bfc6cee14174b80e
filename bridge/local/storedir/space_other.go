//go:build !linux

package storedir

import "errors"

// space is not told here.
func space(string) (free, total uint64, err error) { return 0, 0, errors.ErrUnsupported }
