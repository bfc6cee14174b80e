// Powercut mounts a file system that forgets what was not synced, for tests of programs that promise to
// survive a power cut. It holds everything in memory.
//
//	powercut [flags] DIRECTORY
//
// It reads commands from standard input, one a line, and answers each with one line:
//
//	freeze           nothing changes any more, every program that uses the disk waits
//	cut KEEP SEED    drops what no sync has made durable, but for the part KEEP (0 to 1) of it, chosen
//	                 by SEED; what waited gets an error, and the disk is mounted anew
//	refuse ERRNO     every change of the disk gets this error number: 30 for a read-only file system, 28
//	                 for a full one, 5 for a broken one; 0 ends it
//	stats            syncs, writes, and what was dropped so far
//
// At the end of the input it unmounts.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func main() {
	var r rules
	flag.StringVar((*string)(&r.entries), "entries", string(journaled), "the directory entries that a sync makes durable: journal (all earlier ones), own (the file's and those above it), strict (none but a synced directory's)")
	flag.DurationVar(&r.delay, "sync-delay", 2*time.Millisecond, "how long a sync takes")
	flag.Int64Var(&r.size, "size", 1<<30, "size of the disk in bytes")
	flag.Parse()
	known := r.entries == journaled || r.entries == own || r.entries == strict
	if flag.NArg() != 1 || !known {
		fmt.Fprintln(os.Stderr, "usage: powercut [flags] DIRECTORY")
		os.Exit(2)
	}
	if err := run(newDisk(r), flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
		os.Exit(1)
	}
}

func run(d *disk, path string) error {
	server, err := mount(d, path)
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	refusal := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var keep float64
		var seed uint64
		switch line := lines.Text(); {
		case line == "freeze":
			d.freeze()
			fmt.Println("frozen")
		case scan(line, "refuse %d", &refusal):
			d.refuse(syscall.Errno(refusal))
			fmt.Println("done")
		case line == "stats":
			fmt.Printf("%+v\n", d.told())
		case scan(line, "cut %g %d", &keep, &seed):
			d.cut(keep, seed)
			if err := unmount(server); err != nil {
				return err
			}
			d.start()
			if server, err = mount(d, path); err != nil {
				return err
			}
			fmt.Println("mounted")
		default:
			return fmt.Errorf("%q is no command", line)
		}
	}
	return unmount(server)
}

func (d *disk) told() stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

func scan(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}

// unmount waits for programs that are about to end.
func unmount(server *fuse.Server) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := server.Unmount()
		if err == nil || !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}
