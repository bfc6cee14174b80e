package gateway

import (
	"bufio"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"

	"fleetbridge/bridge/cloud"
)

const (
	// What auto takes: a quarter of the memory, at most autoMost. The rest is for the programs of the gateway, and for the
	// file cache, which the store needs. More would not help.
	autoPart = 4
	autoMost = 256 << 20
	// leastMemory is what the bridge needs for its embedded server and a few Things.
	leastMemory = 64 << 20
	// inboxPart is the part of the memory for messages from brokers that are not settled yet. Such a message is in memory
	// about four times on its way to the disk, and the garbage collector lets garbage grow to the size of what is in use.
	inboxPart = 8
	// goPart, in percent, is what Go's runtime may have of a container's memory. The rest is for the file cache.
	goPart = 90
	// garbagePart, in percent, is the part of the memory into which garbage may grow as it likes with auto. Go would let it grow to
	// the size of what is in use. Beyond, it may have a garbageLeast-th of that.
	garbagePart  = 80
	garbageLeast = 4
)

// Memory is what the bridge may take: Bytes, or as much as is sensible on the machine or in the container (0, auto).
type Memory struct{ Bytes Size }

func (m Memory) String() string {
	if m.Bytes == 0 {
		return "auto"
	}
	return m.Bytes.String()
}

func (m Memory) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func (m *Memory) UnmarshalText(text []byte) error {
	if string(text) == "auto" {
		*m = Memory{}
		return nil
	}
	if err := m.Bytes.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w, or auto", err)
	}
	if m.Bytes < leastMemory {
		return fmt.Errorf("%q is less than the bridge needs, write %s or more, or auto", text, Size(leastMemory))
	}
	return nil
}

// memory is the memory that the bridge may take, by its configuration and its machine, in bytes.
type memory struct {
	inbox   int   // for what brokers have sent and the store does not have yet
	runtime int64 // Go's memory limit; math.MaxInt64: none
	garbage int64 // up to which garbage may grow; 0: up to runtime
}

// share divides the memory. container and machine are the bytes that these have; 0: not known.
func (m Memory) share(container, machine int64) memory {
	out := memory{runtime: math.MaxInt64}
	all := int64(m.Bytes)
	switch {
	case all > 0:
		out.runtime = all
	case container > 0 && (machine == 0 || container < machine):
		out.runtime = container / 100 * goPart
		all = container / autoPart
	default:
		all = machine / autoPart
	}
	if m.Bytes == 0 {
		all = max(min(all, autoMost), leastMemory)
		out.garbage = all / 100 * garbagePart
	}
	out.inbox = int(min(all/inboxPart, math.MaxInt32))
	return out
}

// shareMemory looks at the machine.
func shareMemory(m Memory) memory {
	root := os.DirFS("/")
	return m.share(containerMemory(root), machineMemory(root))
}

// budget makes the budget that all Things share.
func (m memory) budget() *cloud.Budget { return cloud.NewBudget(m.inbox) }

// limitRuntime sets Go's memory limit, so that the collector works harder before the process outgrows its memory. If the
// operator has set GOMEMLIMIT, that stays. undo sets the old limit again.
func (m memory) limitRuntime() (undo func()) {
	if os.Getenv("GOMEMLIMIT") != "" || m.runtime == math.MaxInt64 && m.garbage == 0 {
		return func() {}
	}
	var mu sync.Mutex
	over, limit := false, m.limit(inUse())
	before := debug.SetMemoryLimit(limit)
	afterEachCollection(func() (again bool) {
		mu.Lock()
		defer mu.Unlock()
		if over || m.garbage == 0 {
			return false
		}
		if now := m.limit(inUse()); now != limit {
			limit = now
			debug.SetMemoryLimit(limit)
		}
		return true
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		debug.SetMemoryLimit(before)
	}
}

// limit is Go's memory limit while so many bytes are in use in the heap, and so many outside of it. It leaves room
// for garbage in any case: without any, the collector would run all the time.
func (m memory) limit(heap, rest int64) int64 {
	if m.garbage == 0 {
		return m.runtime
	}
	return min(m.runtime, max(m.garbage, heap+heap/garbageLeast+rest))
}

// inUse is what the last collection left in the heap, and what Go has from the system besides.
func inUse() (heap, rest int64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(samples)
	var n [6]int64
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			n[i] = int64(s.Value.Uint64())
		}
	}
	return n[0], n[1] - n[2] - n[3] - n[4] - n[5]
}

// afterEachCollection calls f after each run of the garbage collector until it returns false.
func afterEachCollection(f func() (again bool)) {
	runtime.AddCleanup(new([32]byte), func(f func() bool) {
		if f() {
			afterEachCollection(f)
		}
	}, f)
}

// machineMemory is the memory of the machine; 0: not known, as on systems without /proc.
func machineMemory(root fs.FS) int64 {
	for line := range lines(root, "proc/meminfo") {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// containerMemory is the least limit of the control groups that the process is in, of either version; 0: none.
func containerMemory(root fs.FS) int64 {
	least := int64(0)
	for line := range lines(root, "proc/self/cgroup") { // 0::/a/b, or 9:memory:/a/b
		part := strings.SplitN(line, ":", 3)
		if len(part) != 3 {
			continue
		}
		at, name := "sys/fs/cgroup", "memory.max"
		if part[1] != "" {
			if !strings.Contains(","+part[1]+",", ",memory,") {
				continue
			}
			at, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// In a container the path may be one of the host's that is not there. Then the limit is in the root.
		for group := path.Clean("/" + part[2]); ; group = path.Dir(group) {
			for text := range lines(root, path.Join(at, group, name)) {
				// Version 1 writes a number of about 2^63 for no limit.
				if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 && n < 1<<60 && (least == 0 || n < least) {
					least = n
				}
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// lines yields the lines of a small system file; none if it can't be read.
func lines(root fs.FS, name string) func(func(string) bool) {
	return func(yield func(string) bool) {
		f, err := root.Open(name)
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if !yield(strings.TrimSpace(s.Text())) {
				return
			}
		}
	}
}
