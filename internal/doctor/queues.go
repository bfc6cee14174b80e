package doctor

import (
	"context"
	"errors"
	"fmt"

	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/storedir"
)

// nearlyFull is from where on a queue is worth a warning, in hundredths.
const nearlyFull = 80

// queues compares what may be stored with the disk, looks how full the streams are, and whether the broker
// takes what the bridge would send.
func (d *Doctor) queues(ctx context.Context, visits []visit) {
	if d.over(ctx, checkQueues) {
		return
	}
	d.room()
	d.fills(ctx)
	for _, v := range visits {
		if v.server == "" {
			continue
		}
		d.broker(v)
		break // the broker's limits are the same for every Thing
	}
}

// room compares the limits with the disk.
func (d *Doctor) room() {
	n := d.cfg.NATS
	limits := fmt.Sprintf("nats.up.max_bytes %s (three streams) and nats.down.max_bytes %s", bytes(uint64(n.Up.MaxBytes)), bytes(uint64(n.Down.MaxBytes)))
	all := local.Wanted(d.storeConfig())
	switch {
	case !d.embedded():
		d.ok(checkQueues, "limits", "%s; the disk is the NATS server's", limits)
		return
	case all == 0:
		d.add(Finding{Warn, checkQueues, "limits", "some streams have no limit, so the disk is it", "set nats.up.max_bytes and nats.down.max_bytes"})
		return
	}
	_, total, _, err := storedir.Space(existing(n.Embedded.StoreDir))
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		d.ok(checkQueues, "limits", "%s, together %s", limits, bytes(all))
	case err != nil:
		d.add(Finding{Fail, checkQueues, "limits", err.Error(), "check nats.embedded.store_dir"})
	case all > total:
		d.add(Finding{Warn, checkQueues, "limits", fmt.Sprintf("%s are together %s, more than the whole disk (%s): when it is nearly full, publishers get errors", limits, bytes(all), bytes(total)),
			"lower them, or use a larger disk"})
	default:
		d.ok(checkQueues, "limits", "%s are together %s, the disk has %s", limits, bytes(all), bytes(total))
	}
}

// fills tells how full the streams are, when there is somebody to ask.
func (d *Doctor) fills(ctx context.Context) {
	if d.nc == nil {
		d.skip(checkQueues, "streams", "needs nats")
		return
	}
	ctx, cancel := d.step(ctx)
	defer cancel()
	fills, err := local.Fills(ctx, d.nc, d.storeConfig())
	if err != nil {
		d.skip(checkQueues, "streams", "needs jetstream: "+err.Error())
		return
	}
	for _, f := range fills {
		switch full := percent(f); {
		case !f.Exists:
			d.ok(checkQueues, f.Stream, "not there yet; the first run makes it")
		case full >= nearlyFull && !f.Discards:
			d.add(Finding{Warn, checkQueues, f.Stream, fmt.Sprintf("%d messages wait, %s of %s (%d %%): soon publishers get errors", f.Messages, bytes(f.Bytes), bytes(uint64(f.MaxBytes)), full),
				"bring the connection to the broker back, or raise nats.up.max_bytes"})
		case f.Letters && f.Messages > 0:
			d.add(Finding{Warn, checkQueues, f.Stream, fmt.Sprintf("%d dead letters: messages that were refused, %s", f.Messages, bytes(f.Bytes)),
				"fleetbridge dead ls shows them and why"})
		case f.MaxBytes == 0:
			d.ok(checkQueues, f.Stream, "%d messages, %s", f.Messages, bytes(f.Bytes))
		default:
			d.ok(checkQueues, f.Stream, "%d messages, %s of %s (%d %%)", f.Messages, bytes(f.Bytes), bytes(uint64(f.MaxBytes)), full)
		}
	}
}

func percent(f local.Fill) uint64 {
	if f.MaxBytes <= 0 {
		return 0
	}
	return f.Bytes * 100 / uint64(f.MaxBytes)
}

// broker compares the broker's limits with what may be sent.
func (d *Doctor) broker(v visit) {
	largest := uint64(d.cfg.Limits.Payload)
	if v.can.PacketSize > 0 && uint64(v.can.PacketSize) < largest {
		d.add(Finding{Warn, checkQueues, "broker", fmt.Sprintf("takes packets up to %s, limits.payload allows payloads of %s: larger ones become dead letters", bytes(uint64(v.can.PacketSize)), bytes(largest)),
			"lower limits.payload, or raise the broker's limit"})
		return
	}
	size := "of any size"
	if v.can.PacketSize > 0 {
		size = "up to " + bytes(uint64(v.can.PacketSize))
	}
	d.ok(checkQueues, "broker", "takes packets %s, %d in flight", size, v.can.ReceiveMaximum)
}

// bytes spells a size.
func bytes(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 || f == float64(uint64(f)) {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
