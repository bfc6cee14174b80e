package local

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// maxReserve is how much of the disk the queues leave free at most: what is queued must still be
// delivered and settled, and that takes room, too.
const maxReserve = 64 << 20

const guardInterval = time.Second

// Guard keeps the queues from filling the disk that dir is on, until ctx ends. While it is nearly full
// (less than 64 MiB, or a twentieth of a small disk) they take no more than they hold: publishers get
// the error of a full stream, and everything else goes on. It returns nil, at once where the free space
// can't be told.
func (s *Store) Guard(ctx context.Context, dir string) error {
	return s.guard(ctx, guardInterval, func() (free, total uint64, err error) { return space(dir) })
}

func (s *Store) guard(ctx context.Context, every time.Duration, space func() (free, total uint64, err error)) error {
	if _, total, err := space(); err == nil {
		s.warnOfLimits(total)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	closed := false
	for {
		free, total, err := space()
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		reserve := min(maxReserve, total/20)
		full := free < reserve || closed && free < reserve+reserve/4
		if err == nil && full != closed {
			if err = s.limit(ctx, full); err == nil {
				closed = full
				if full {
					s.log.Error("the disk is nearly full; the queues take no more, publishers get errors", "free_bytes", free, "reserve_bytes", reserve)
				} else {
					s.log.Info("the disk has room again, the queues take more", "free_bytes", free)
				}
			}
		}
		if err != nil {
			s.log.Debug("cannot guard the disk now", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// warnOfLimits tells when the streams may grow larger than the disk: then the disk is the limit.
func (s *Store) warnOfLimits(total uint64) {
	var all uint64
	for _, want := range s.cfg.streams(s.nc.MaxPayload()) {
		all += uint64(max(want.MaxBytes, 0))
	}
	if all > total {
		s.log.Warn("the limits of the streams together are larger than the disk; when it is nearly full, publishers get errors",
			"limits_bytes", all, "disk_bytes", total, "mend", "lower nats.up.max_bytes or nats.down.max_bytes")
	}
}

// limit sets the up streams to what they hold, or back to what is configured.
func (s *Store) limit(ctx context.Context, full bool) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for _, class := range mapping.Classes {
		err := s.reshape(ctx, class, func(is *jetstream.StreamInfo) {
			is.Config.MaxBytes = unlimited(s.cfg.Up)
			if full {
				is.Config.MaxBytes = int64(max(is.State.Bytes, 1))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}
