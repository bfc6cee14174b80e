//go:build !windows

package soak

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// clockVariable names, for a program of builtWithClock, the file of its clock.
const clockVariable = "FLEETBRIDGE_SOAK_CLOCK"

// clockSource is what the standard library's package time gets: seconds by which Now is wrong, from a file that both sides
// have in memory. The monotonic clock stays right, as it does when somebody sets the system's.
const clockSource = `package time

import (
	"syscall"
	"unsafe"
)

var wrongBy *int64

func init() {
	name, _ := syscall.Getenv("` + clockVariable + `")
	if name == "" {
		return
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		return
	}
	if b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED); err == nil {
		wrongBy = (*int64)(unsafe.Pointer(&b[0]))
	}
}

func wrong() int64 {
	if wrongBy == nil {
		return 0
	}
	return *wrongBy
}
`

// builtWithClock are both programs with a clock that can be set for each process.
var builtWithClock = sync.OnceValues(func() (b clusterBinaries, err error) {
	dir, err := programDir()
	if err != nil {
		return b, err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return b, err
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		return b, err
	}
	const reads = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	changed := strings.Replace(string(text), reads, reads+"\tsec += wrong()\n", 1)
	overlay, _ := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(source, "time.go"):  filepath.Join(dir, "time.go"),
		filepath.Join(source, "wrong.go"): filepath.Join(dir, "wrong.go"),
	}})
	for name, text := range map[string]string{"time.go": changed, "wrong.go": clockSource, "overlay.json": string(overlay)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return b, err
		}
	}
	flag := "-overlay=" + filepath.Join(dir, "overlay.json")
	if b.bridge, err = buildProgram("fleetbridge-clock", "./cmd/fleetbridge", flag); err != nil {
		return b, err
	}
	b.server, err = buildProgram("nats-server-clock", "github.com/nats-io/nats-server/v2", flag)
	return b, err
})

// setClock sets the clock of a process wrong by some time.
func (s *clusterSite) setClock(file string, by time.Duration) {
	s.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(by/time.Second))), 0); err != nil {
		s.Fatal(err)
	}
}
