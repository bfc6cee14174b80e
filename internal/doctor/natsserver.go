package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/services"
	"fleetbridge/bridge/local/wire"
)

// reachNATS connects to the external server, or to the embedded one of a running bridge.
func (d *Doctor) reachNATS(ctx context.Context) {
	if d.embedded() && !d.bridge.running {
		return
	}
	ctx, cancel := d.step(ctx)
	defer cancel()
	config, err := d.cfg.OperatorDial()
	if err != nil {
		d.ncErr = err
		return
	}
	config.Log = quiet()
	d.nc, d.ncErr = wire.Reach(ctx, config)
}

func (d *Doctor) serving(ctx context.Context) (bool, error) {
	const quick = 2 * time.Second // who serves answers at once; nobody is told at once by the server
	ctx, cancel := context.WithTimeout(ctx, min(quick, d.options.Timeout))
	defer cancel()
	return services.Serving(ctx, d.nc, d.subjects)
}

// nats tells of the connection, or of the address that the embedded server would listen on.
func (d *Doctor) nats(ctx context.Context) {
	if d.over(ctx, checkNATS) {
		return
	}
	switch {
	case d.nc != nil:
		server := d.nc.ConnectedUrlRedacted()
		if d.lent && d.embedded() {
			server = "embedded" // within the process there is no address
		}
		began := time.Now()
		limited, cancel := d.step(ctx)
		defer cancel()
		if err := d.nc.FlushWithContext(limited); err != nil {
			d.add(Finding{Fail, checkNATS, server, cause(err), "look at the server's log"})
			return
		}
		d.ok(checkNATS, server, "nats-server %s answers (%s)", d.nc.ConnectedServerVersion(), brief(time.Since(began)))
	case d.ncErr != nil:
		d.add(Finding{Fail, checkNATS, "", d.ncErr.Error(), d.mendOfNATS(d.ncErr)})
	case d.bridge.unknown != "":
		d.skip(checkNATS, "", d.bridge.unknown)
	default:
		if address := d.cfg.NATS.Embedded.Listen; d.free(checkNATS, "nats.embedded.listen", address) {
			d.ok(checkNATS, "", "embedded; %s is free for it", address)
		}
	}
}

func (d *Doctor) mendOfNATS(err error) string {
	text := strings.ToLower(err.Error())
	switch {
	case d.embedded():
		return "run doctor as the user that runs fleetbridge; look at its log"
	case errors.Is(err, nats.ErrAuthorization), strings.Contains(text, "authorization"), strings.Contains(text, "authentication"):
		return "check the login in nats.url or nats.creds_file"
	case strings.Contains(text, "certificate"), strings.Contains(text, "tls"):
		return "check nats.tls"
	}
	return "start the NATS server, or correct nats.url"
}

// jetStream asks for JetStream and its limits. With an embedded server that does not run it starts one for
// a moment, in a directory of its own beside the streams.
func (d *Doctor) jetStream(ctx context.Context) {
	if d.over(ctx, checkJetStream) {
		return
	}
	ctx, cancel := d.step(ctx)
	defer cancel()
	switch {
	case d.nc != nil:
		d.account(ctx)
	case d.ncErr != nil || d.bridge.unknown != "":
		d.skip(checkJetStream, "", "needs nats")
	default:
		d.trial(ctx)
	}
}

// account looks at the limits of an existing JetStream.
func (d *Doctor) account(ctx context.Context) {
	if err := wire.HasJetStream(ctx, d.nc); err != nil {
		detail, mend := mended(err)
		d.add(Finding{Fail, checkJetStream, "", detail, mend})
		return
	}
	js, err := jetstream.New(d.nc)
	if err != nil {
		d.add(Finding{Fail, checkJetStream, "", err.Error(), ""})
		return
	}
	info, err := js.AccountInfo(ctx)
	if err != nil {
		d.add(Finding{Fail, checkJetStream, "", err.Error(), "look at the server's log"})
		return
	}
	if detail, mend := gateway.PayloadShortage(d.nc.MaxPayload(), d.cfg.Limits); detail != "" {
		d.add(Finding{Warn, checkJetStream, "", detail, mend})
	}
	detail := fmt.Sprintf("enabled, %d streams, %s stored", info.Streams, bytes(info.Store))
	all, most := local.Wanted(d.storeConfig()), info.Limits.MaxStore
	older, _ := wire.Older(d.nc.ConnectedServerVersion(), 2, 12) // without subject transforms in streams and atomic batches
	switch {
	case older:
		d.add(Finding{Fail, checkJetStream, "", detail + "; the server has version " + d.nc.ConnectedServerVersion(), "use NATS 2.12 or later"})
	case most > 0 && all > uint64(most) && !d.embedded():
		d.add(Finding{Warn, checkJetStream, "", fmt.Sprintf("%s; the account may store %s, the limits of the streams are together %s", detail, bytes(uint64(most)), bytes(all)),
			"raise the account's limit, or lower nats.up.max_bytes and nats.down.max_bytes"})
	default:
		d.ok(checkJetStream, "", "%s", detail)
	}
}

// trial starts the embedded server on the disk that it would use, and stores a message.
func (d *Doctor) trial(ctx context.Context) {
	dir, err := os.MkdirTemp(existing(d.cfg.NATS.Embedded.StoreDir), "doctor-")
	if err != nil {
		d.add(Finding{Fail, checkJetStream, "", err.Error(), "give the user that runs fleetbridge the right to write in nats.embedded.store_dir"})
		return
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	if err := d.store(ctx, dir); err != nil {
		d.add(Finding{Fail, checkJetStream, "", err.Error(), "check the disk of nats.embedded.store_dir"})
		return
	}
	d.ok(checkJetStream, "", "an embedded server stores a message on this disk and gives it back (%s)", brief(time.Since(began)))
}

func (d *Doctor) store(ctx context.Context, dir string) error {
	server, err := embedded.Start(embedded.Config{Subjects: d.subjects, Listen: "127.0.0.1:0", StoreDir: dir, Log: quiet()})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	nc, err := server.Connect("fleetbridge doctor")
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "DOCTOR", Subjects: []string{"doctor"}})
	if err != nil {
		return err
	}
	ack, err := js.Publish(ctx, "doctor", []byte("x"))
	if err != nil {
		return err
	}
	_, err = stream.GetMsg(ctx, ack.Sequence)
	return err
}
