package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fleetbridge/bridge/local/storedir"
)

const (
	syncs    = 32               // writes that are timed
	syncSize = 4 << 10          // bytes of one
	syncTime = 10 * time.Second // for all of them
	slowSync = 20 * time.Millisecond
)

// disk looks at the disk of the embedded server: how much is free, and how long a write takes to be there.
func (d *Doctor) disk(ctx context.Context) {
	if !d.embedded() {
		d.skip(checkDisk, "", "messages are stored by nats.url, on a disk that is not seen from here")
		d.skip(checkFsync, "", "messages are stored by nats.url, on a disk that is not seen from here")
		return
	}
	dir := existing(d.cfg.NATS.Embedded.StoreDir)
	if !d.over(ctx, checkDisk) {
		d.space(dir)
	}
	if !d.over(ctx, checkFsync) {
		d.fsync(ctx, dir)
	}
}

// existing is the directory, or the nearest one above it that is there.
func existing(dir string) string {
	if full, err := filepath.Abs(dir); err == nil {
		dir = full
	}
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

func (d *Doctor) space(dir string) {
	free, total, reserve, err := storedir.Space(dir)
	f := Finding{Check: checkDisk, Subject: dir, Status: OK}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		f.Status, f.Detail = Skip, "free space is not told on this system"
	case err != nil:
		f.Status, f.Detail, f.Mend = Fail, err.Error(), "check nats.embedded.store_dir"
	case free < reserve:
		f.Status, f.Detail = Fail, fmt.Sprintf("%s of %s free; below %s the queues take no more", bytes(free), bytes(total), bytes(reserve))
		f.Mend = "make room, or set nats.embedded.store_dir to another disk"
	case free < 4*reserve:
		f.Status, f.Detail = Warn, fmt.Sprintf("%s of %s free; below %s the queues take no more", bytes(free), bytes(total), bytes(reserve))
		f.Mend = "make room, or set nats.embedded.store_dir to another disk"
	default:
		f.Detail = fmt.Sprintf("%s of %s free", bytes(free), bytes(total))
	}
	d.add(f)
}

// fsync times small writes, each forced to the disk, as a program waits for one with every message.
func (d *Doctor) fsync(ctx context.Context, dir string) {
	times, err := timeSyncs(ctx, dir)
	if err != nil {
		d.add(Finding{Fail, checkFsync, dir, err.Error(), "give the user that runs fleetbridge the right to write in nats.embedded.store_dir, and make room"})
		return
	}
	slices.Sort(times)
	median, worst := times[len(times)/2], times[len(times)-1]
	detail := fmt.Sprintf("a synced write of %s takes %s, the slowest of %d %s", bytes(syncSize), brief(median), len(times), brief(worst))
	if median > slowSync {
		d.add(Finding{Warn, checkFsync, dir, detail + fmt.Sprintf(": a program that waits for each PubAck sends about %d messages a second", int(time.Second/median)),
			"use a faster disk, publish with several PubAcks outstanding, or relax reports and events with nats.embedded.sync: 1s"})
		return
	}
	d.ok(checkFsync, dir, "%s", detail)
}

func timeSyncs(ctx context.Context, dir string) (times []time.Duration, err error) {
	f, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}()
	block, end := make([]byte, syncSize), time.Now().Add(syncTime)
	for len(times) < syncs && (len(times) == 0 || ctx.Err() == nil && time.Now().Before(end)) {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}
