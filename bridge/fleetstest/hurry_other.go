//go:build !linux

package fleetstest

func memoryDir() (string, uint64) { return "", 0 }
