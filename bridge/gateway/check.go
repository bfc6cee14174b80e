package gateway

import (
	"net"
	"os"
	"strconv"
	"time"
)

// The checks that several keys share.

func (v *validator) between(path string, n, least, most int) {
	if n < least || n > most {
		v.problem(path, "is %d, write a number from %d to %d", n, least, most)
	}
}

func (v *validator) positive(path string, d time.Duration) {
	if d <= 0 {
		v.problem(path, "is %s, write a duration of more than 0, such as 10s", shortDuration(d))
	}
}

func (v *validator) notNegative(path string, d time.Duration) {
	if d < 0 {
		v.problem(path, "is %s, write 0 or more, such as 5s", shortDuration(d))
	}
}

// seconds checks what MQTT counts in whole seconds.
func (v *validator) seconds(path string, d, most time.Duration) {
	if d < time.Second || d > most || d%time.Second != 0 {
		v.problem(path, "is %s, write whole seconds from 1s to %ds", shortDuration(d), most/time.Second)
	}
}

func (v *validator) listen(path, address string) bool {
	if v.broken(path) {
		return false
	}
	_, port := hostPort(address)
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		mend := "127.0.0.1:PORT"
		if n, err := strconv.Atoi(address); err == nil && n > 0 && n <= 65535 {
			mend = "127.0.0.1:" + address
		}
		v.problem(path, "%q is no host:port, write %s", address, mend)
		return false
	}
	return true
}

// hostPort splits an address; the port is empty when it is none.
func hostPort(address string) (host, port string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", ""
	}
	return host, port
}

// loopback reports whether only programs on this machine can reach a host.
func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func (v *validator) isDir(path, dir string) bool {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		v.problem(path, "%s", fileError(dir, err))
	case !info.IsDir():
		v.problem(path, "%s is no directory", dir)
	default:
		return true
	}
	return false
}

// creds looks at the credentials of nats.url, which the NATS client reads at each connection.
func (v *validator) creds() {
	v.watch(v.NATS.CredsFile)
	_, info, err := readSecret(v.NATS.CredsFile)
	if err != nil {
		v.problem("nats.creds_file", "%s", err)
		return
	}
	v.open("nats.creds_file", v.NATS.CredsFile, info)
}
