//go:build !linux

package fleetsim

func memoryDir() (string, uint64) { return "", 0 }
