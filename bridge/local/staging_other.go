//go:build !linux

package local

import "errors"

func memoryDir(string) (string, error) { return "", errors.ErrUnsupported }
