package fleetsim

import (
	"flag"
	"os"
	"runtime/debug"
)

// atOnce is how many of the tests run at once that say they may (t.Parallel): they wait more than they work.
const atOnce = "6"

// memoryRoom is what must be free in memory for temporary files to go there.
const memoryRoom = 4 << 30

// Hurry is for the TestMain of tests that start servers by the hundred. More of those that run in parallel do so at once, unless
// -parallel says how many, and temporary files are kept in memory where there is room: what is asked is what the
// servers write, not how long a disk takes. What a disk does when the power fails is test/soak's business. The heap of a
// test is small, so its garbage is collected less often, whatever limit of memory a bridge would set: that is one for the
// process, and here many bridges share it. And a program that a test starts, built with the race detector as the test is,
// does not wait a second before it ends, as that is made to.
func Hurry() {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		_ = flag.Set("test.parallel", atOnce) // the flag is there: these are tests
	}
	if dir, free := memoryDir(); free > memoryRoom && os.Getenv("TMPDIR") == "" {
		_ = os.Setenv("TMPDIR", dir)
	}
	debug.SetGCPercent(400)
	if os.Getenv("GOMEMLIMIT") == "" {
		_ = os.Setenv("GOMEMLIMIT", "off") // a bridge leaves the limit alone that somebody has set
	}
	if os.Getenv("GORACE") == "" {
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
}
