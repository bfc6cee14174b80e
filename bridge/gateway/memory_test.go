package gateway

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"
	"time"
)

func TestShareMemory(t *testing.T) {
	t.Parallel()
	const mi, gi = 1 << 20, 1 << 30
	for _, c := range []struct {
		name               string
		set                Size
		container, machine int64
		inbox              int
		runtime            int64
	}{
		{"a large machine", 0, 0, 64 * gi, 32 * mi, math.MaxInt64},
		{"a small one", 0, 0, 512 * mi, 16 * mi, math.MaxInt64},
		{"a very small one", 0, 0, 64 * mi, 8 * mi, math.MaxInt64},
		{"nothing known", 0, 0, 0, 8 * mi, math.MaxInt64},
		{"a container", 0, 400 * mi, 64 * gi, 400 * mi / 32, 360 * mi},
		{"a limit above the machine's", 0, 64 * gi, 512 * mi, 16 * mi, math.MaxInt64},
		{"a size", 1 * gi, 400 * mi, 64 * gi, 128 * mi, 1 * gi},
		{"a size beyond what there is", 100 * gi, 0, 1 * gi, math.MaxInt32, 100 * gi},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Memory{c.set}.share(c.container, c.machine)
			if got.inbox != c.inbox || got.runtime/100 != c.runtime/100 {
				t.Errorf("got %+v, want %d and %d", got, c.inbox, c.runtime)
			}
		})
	}
}

func TestContainerMemory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"version 2, a unit of systemd": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/fleetbridge.service\n", "sys/fs/cgroup/system.slice/fleetbridge.service/memory.max": "268435456\n",
			"sys/fs/cgroup/system.slice/memory.max": "max\n",
		}, 268435456},
		"version 2, a limit of the slice": {map[string]string{
			"proc/self/cgroup": "0::/a.slice/b\n", "sys/fs/cgroup/a.slice/b/memory.max": "max\n", "sys/fs/cgroup/a.slice/memory.max": "1000000\n",
		}, 1000000},
		"version 2, the slice has less": {map[string]string{
			"proc/self/cgroup": "0::/a.slice/b\n", "sys/fs/cgroup/a.slice/b/memory.max": "3000\n", "sys/fs/cgroup/a.slice/memory.max": "2000\n",
		}, 2000},
		"version 2, a container": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728\n"}, 134217728},
		"version 2, a path above the container's": {map[string]string{
			"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/memory.max": "134217728\n"}, 134217728},
		"version 2, none": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		"version 1, a container with the host's path": {map[string]string{
			"proc/self/cgroup":                           "12:cpu,cpuacct:/docker/x\n9:memory:/docker/x\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "134217728\n"}, 134217728},
		"version 1, none": {map[string]string{
			"proc/self/cgroup": "9:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"version 1, beside others": {map[string]string{
			"proc/self/cgroup": "9:hugetlb,memory:/u\n", "sys/fs/cgroup/memory/u/memory.limit_in_bytes": "5000\n"}, 5000},
		"rubbish":      {map[string]string{"proc/self/cgroup": "memory\n::\n0::/a\n", "sys/fs/cgroup/a/memory.max": "-1\nmany\n0\n"}, 0},
		"no such file": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for file, text := range c.files {
				root[file] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := containerMemory(root); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
	root := fstest.MapFS{"proc/meminfo": &fstest.MapFile{Data: []byte("MemTotal:       24682536 kB\nMemFree: 1 kB\n")}}
	if got := machineMemory(root); got != 24682536<<10 {
		t.Errorf("the machine has %d", got)
	}
}

func TestLimitRuntime(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	undo := memory{runtime: 1 << 40}.limitRuntime()
	if got := debug.SetMemoryLimit(-1); got != 1<<40 {
		t.Errorf("the limit is %d", got)
	}
	undo()
	t.Setenv("GOMEMLIMIT", "300MiB")
	undo = memory{runtime: 1 << 41}.limitRuntime()
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("the limit is %d, the operator's was %d", got, before)
	}
	undo()
}

// TestGarbageIsBounded: with auto, garbage doesn't grow to the size of what is in use, as Go would have it, and there is
// always some room for it.
func TestGarbageIsBounded(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	const mi = 1 << 20
	auto := Memory{}.share(0, 64<<30)
	for _, c := range []struct{ heap, rest, want int64 }{{0, 0, auto.garbage}, {100 * mi, 20 * mi, auto.garbage}, {400 * mi, 50 * mi, 550 * mi}} {
		if got := auto.limit(c.heap, c.rest); got != c.want || got < 200*mi {
			t.Errorf("%+v: the limit is %d", c, got)
		}
	}
	if got := (Memory{}).share(400*mi, 64<<30).limit(400*mi, 0); got/100 != 360*mi/100 {
		t.Errorf("in a container the limit is %d", got)
	}
	before := debug.SetMemoryLimit(-1)
	undo := memory{runtime: math.MaxInt64, garbage: mi}.limitRuntime()
	kept, end := make([]byte, 64*mi), time.Now().Add(time.Minute)
	for debug.SetMemoryLimit(-1) < int64(len(kept)) {
		if time.Now().After(end) {
			t.Fatal("the limit does not follow what is in use")
		}
		runtime.GC()
	}
	runtime.KeepAlive(kept)
	undo()
	runtime.GC()
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("the limit is %d, and was %d", got, before)
	}
}
