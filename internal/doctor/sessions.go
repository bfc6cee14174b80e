package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge"
	"fleetbridge/bridge/cloud"
	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// visit is what one connection with a Thing's client id has shown, or what the running bridge says of it.
type visit struct {
	thing string
	// Of our own connection.
	server  string
	err     error // it can't connect
	took    time.Duration
	present bool
	waiting int
	more    bool
	can     cloud.Capabilities
	grants  []cloud.Grant
	broken  error // the connection was lost while we looked
	asked   bool
	answer  cloud.Answered
	refusal error // of the question
	// Of the running bridge; nil: it did not say.
	status *bridge.Status
}

// connected reports whether the running bridge says so.
func (v visit) connected() bool { return v.status != nil && v.status.Connected }

// sessions looks at every Thing's session: connection, subscriptions, publishing, and what the broker has
// kept. With a bridge running it asks that one, because a second connection with a client id ends the
// first.
func (d *Doctor) sessions(ctx context.Context) []visit {
	if ctx.Err() != nil {
		for _, check := range []string{checkConnect, checkSubscribe, checkPublish, checkSession} {
			d.over(ctx, check)
		}
		return nil
	}
	why := ""
	switch {
	case d.bridge.running:
		return d.ofRunning(ctx)
	case d.bridge.unknown != "":
		why = "it is unknown whether fleetbridge runs, and a second connection would end the first"
	case d.options.Stay:
		why = "not wanted (--no-connect)"
	}
	if why != "" {
		for _, check := range []string{checkConnect, checkSubscribe, checkPublish, checkSession} {
			d.skip(check, "", why)
		}
		return nil
	}
	visits := flow.Each(d.cfg.Things, atOnce, func(t gateway.Thing) visit { return d.visit(ctx, t) })
	for _, report := range []func(visit){d.connected, d.subscribed, d.published, d.kept} {
		for _, v := range visits {
			report(v)
		}
	}
	return visits
}

// visit connects as the Thing, looks, and leaves.
func (d *Doctor) visit(ctx context.Context, t gateway.Thing) (v visit) {
	v.thing = t.Name
	config := d.session(t)
	var p *cloud.Probe
	began := time.Now()
	for _, s := range d.cfg.MQTT.Server {
		server, err := url.Parse(s)
		if err != nil {
			v.err = err
			continue
		}
		limited, cancel := d.step(ctx)
		p, err = cloud.OpenProbe(limited, mapping.Thing(t.Name), config, server)
		cancel()
		if err == nil {
			v.server, v.err = cloud.Shown(server), nil
			break
		}
		v.err = errors.Join(v.err, fmt.Errorf("%s: %w", cloud.Shown(server), err))
	}
	if p == nil {
		return v
	}
	v.took, v.present, v.can = time.Since(began), p.SessionPresent(), p.Capabilities()
	defer func() {
		v.waiting, v.more = p.Waiting()
		if lost := p.Close(); lost != nil && v.broken == nil && v.refusal == nil {
			v.broken = lost
		}
	}()
	if v.grants, v.broken = p.Subscribe(ctx); v.broken != nil {
		return v
	}
	// What waits has come with the first SUBACKs. An answer behind it could not be acknowledged, and would
	// come down after the next start.
	if n, _ := p.Waiting(); n > 0 {
		return v
	}
	limited, cancel := d.step(ctx)
	defer cancel()
	v.asked = true
	v.answer, v.refusal = p.Question(limited)
	return v
}

// session is the connection that the bridge would make for a Thing.
func (d *Doctor) session(t gateway.Thing) cloud.Config {
	m, files := d.cfg.MQTT, d.cfg.MQTT.TLS
	if t.TLS != (gateway.KeyPair{}) {
		files.CertFile, files.KeyFile = t.TLS.CertFile, t.TLS.KeyFile
	}
	return cloud.Config{
		TLS: files.Client, ClientID: t.ClientID, Username: t.Username, Password: string(t.Password),
		KeepAlive: m.KeepAlive, SessionExpiry: m.SessionExpiry, AckTimeout: m.AckTimeout, ConnectTimeout: m.ConnectTimeout,
		Compact: m.Subscriptions == gateway.SubscriptionsCompact, MaxPacket: int(d.cfg.Limits.Payload) + packetHeadroom,
		MaxPayload: int(d.cfg.Limits.Payload),
	}
}

// packetHeadroom is what a packet may have beyond the largest payload.
const packetHeadroom = 1 << 20

func (d *Doctor) connected(v visit) {
	if v.err != nil {
		detail := strings.ReplaceAll(v.err.Error(), "\n", "; ")
		detail, mend := d.mendOfConnect(detail)
		d.add(Finding{Fail, checkConnect, v.thing, detail, mend})
		return
	}
	if v.broken != nil {
		detail, mend := cloud.SplitMend(v.broken.Error())
		d.add(Finding{Fail, checkConnect, v.thing, "the connection was lost while it was looked at: " + detail,
			cmp.Or(mend, "give the Thing one bridge, and its client id to no other client")})
		return
	}
	d.ok(checkConnect, v.thing, "%s takes the login and speaks MQTT 5 (%s)", v.server, brief(v.took))
}

// mendOfConnect takes the mend out of an error, or adds one.
func (d *Doctor) mendOfConnect(text string) (detail, mend string) {
	if detail, mend = cloud.SplitMend(text); mend != "" {
		return detail, mend
	}
	switch {
	case strings.Contains(text, "CONNACK"), strings.Contains(text, "DISCONNECT"):
		return text, "ask the broker's administrator; its log says more"
	case strings.Contains(text, "certificate"), strings.Contains(text, "tls:"):
		return text, "check mqtt.tls; a broker may want a client certificate"
	case d.unreached:
		return text, "see dns, tcp and tls above"
	}
	return text, "look at the broker's log: dns, tcp and tls are fine"
}

func (d *Doctor) subscribed(v visit) {
	switch {
	case v.err != nil:
		d.skip(checkSubscribe, v.thing, "needs connect")
		return
	case v.broken != nil && len(v.grants) == 0:
		d.skip(checkSubscribe, v.thing, "needs a connection that lasts")
		return
	}
	for _, g := range v.grants {
		f := Finding{Check: checkSubscribe, Subject: v.thing, Status: OK, Detail: g.Filter + " granted, QoS 1"}
		switch {
		case g.Refused():
			reason, mend, known := strings.Cut(g.Reason, ": ")
			if !known {
				mend = "ask the broker's administrator; its log says more"
			}
			f.Status, f.Detail, f.Mend = Fail, fmt.Sprintf("%s refused, 0x%02X %s", g.Filter, g.Code, reason), mend
		case g.Code == 0:
			f.Status, f.Detail = Warn, g.Filter+" granted at QoS 0 only: what the broker sends may be lost"
			f.Mend = "allow QoS 1 at the broker"
		}
		d.add(f)
	}
}

// published tells of the one publish that changes nothing in the cloud, and why the others are left out.
func (d *Doctor) published(v visit) {
	f := Finding{Check: checkPublish, Subject: v.thing}
	switch {
	case v.err != nil:
		f.Status, f.Detail = Skip, "needs connect"
	case v.broken != nil:
		f.Status, f.Detail = Skip, "needs a connection that lasts"
	case !v.asked:
		f.Status, f.Detail = Skip, "messages wait, and an answer would stay behind them; run doctor again when a bridge has taken them"
	case v.refusal != nil:
		f.Status, f.Detail, f.Mend = Fail, "jobs/get: "+v.refusal.Error(), "ask the broker's administrator; its log says more"
		if strings.Contains(f.Detail, "0x87") {
			f.Detail, f.Mend = "jobs/get is refused by the broker, 0x87 not authorised",
				"allow the client to publish to $emqx/things/"+v.thing+"/# and $emqx/commands/things/"+v.thing+"/#"
		}
	case v.answer.Answer != nil && v.answer.Refused:
		f.Status, f.Detail = Warn, "jobs/get is taken, and Fleets rejects it: "+words(v.answer.Answer)
		f.Mend = "check that the Thing is registered in Fleets by this name"
	case v.answer.Answer != nil:
		f.Status, f.Detail = OK, fmt.Sprintf("jobs/get is answered by Fleets (%s)", brief(v.answer.Took))
	default:
		f.Status, f.Detail = Warn, fmt.Sprintf("jobs/get is taken by the broker and not answered within %s", d.options.Timeout)
		f.Mend = "check the broker's rules for $emqx, that Fleets can publish, and that the Thing is registered by this name"
	}
	d.add(f)
	if f.Status != Skip {
		d.skip(checkPublish, v.thing, "reports, events, responses and updates: nothing can be sent on them that the cloud would not store")
	}
}

// words takes the reason out of a rejection.
func words(answer []byte) string {
	doc := gjson.ParseBytes(answer)
	for _, member := range []string{"message", "detail", "title", "code"} {
		if text := doc.Get(member).String(); text != "" {
			return fmt.Sprintf("%q", text)
		}
	}
	return "without a reason"
}

// kept tells of the session at the broker.
func (d *Doctor) kept(v visit) {
	f := Finding{Check: checkSession, Subject: v.thing, Status: OK}
	wanted := d.cfg.MQTT.SessionExpiry
	switch {
	case v.err != nil:
		f.Status, f.Detail = Skip, "needs connect"
	case v.can.AtMostOnce:
		f.Status, f.Detail, f.Mend = Warn, "the broker's Maximum QoS is 0: it acknowledges nothing and keeps nothing", "use a broker that has QoS 1"
	case v.present && v.more:
		f.Detail = fmt.Sprintf("kept by the broker, with %d messages or more that wait; they stay there", v.waiting)
	case v.present && v.waiting > 0: // a broker may have brought as many as it may at once
		f.Detail = fmt.Sprintf("kept by the broker, with at least %d messages that wait; they stay there", v.waiting)
	case v.present:
		f.Detail = "kept by the broker, with no messages that wait"
	case d.ranBefore():
		f.Status, f.Detail = Warn, "not kept by the broker, though a bridge has run here: what the cloud sent meanwhile is lost"
		f.Mend = "check the broker's persistence and its limit of the session expiry; it is normal after mqtt.session_expiry, or before the Thing's first connection"
	default:
		f.Detail = "none yet; the first run makes one"
	}
	if f.Status == OK && v.can.SessionExpiry < wanted {
		f.Status = Warn
		f.Detail += fmt.Sprintf("; the broker keeps it for %s, mqtt.session_expiry asks for %s", v.can.SessionExpiry, wanted)
		f.Mend = "raise the broker's limit, or don't leave the gateway off for longer"
	}
	d.add(f)
}

// ranBefore reports whether a bridge has stored anything here.
func (d *Doctor) ranBefore() bool {
	if !d.embedded() {
		return false
	}
	_, err := os.Stat(filepath.Join(d.cfg.NATS.Embedded.StoreDir, "jetstream"))
	return err == nil
}

// ofRunning makes findings of what the running bridge says.
func (d *Doctor) ofRunning(ctx context.Context) []visit {
	visits := flow.Each(d.cfg.Things, atOnce, func(t gateway.Thing) visit {
		return visit{thing: t.Name, status: d.status(ctx, t.Name)}
	})
	const skipped = "skipped: fleetbridge is running"
	for _, v := range visits {
		switch {
		case v.status == nil:
			d.skip(checkConnect, v.thing, skipped+", and does not say how this Thing stands"+d.bridge.said())
		case v.status.Connected:
			d.ok(checkConnect, v.thing, "%s, and says: connected%s", skipped, since(v.status.Since))
		default:
			detail, mend := d.mendOfConnect(v.status.LastError)
			d.add(Finding{Fail, checkConnect, v.thing, skipped + ", and says: not connected" + since(v.status.Since) + ": " + detail, mend})
		}
	}
	for _, v := range visits {
		switch {
		case !v.connected():
			d.skip(checkSubscribe, v.thing, "needs connect")
		case v.status.Subscribed && v.status.LastError != "":
			detail, mend := cloud.SplitMend(v.status.LastError)
			d.add(Finding{Warn, checkSubscribe, v.thing, skipped + ", and says: every filter is granted, but " + detail, cmp.Or(mend, "look at the log of fleetbridge")})
		case v.status.Subscribed:
			d.ok(checkSubscribe, v.thing, "%s, and says: every filter is granted", skipped)
		default:
			detail, mend := cloud.SplitMend(v.status.LastError)
			d.add(Finding{Fail, checkSubscribe, v.thing, skipped + ", and says: " + detail, cmp.Or(mend, "ask the broker's administrator; its log says more")})
		}
	}
	for _, f := range flow.Each(visits, atOnce, func(v visit) Finding { return d.ask(ctx, v) }) {
		d.add(f)
	}
	for _, v := range visits {
		switch {
		case !v.connected():
			d.skip(checkSession, v.thing, "needs connect")
		case v.status.SessionPresent:
			d.ok(checkSession, v.thing, "%s, and says: kept by the broker at the last connection", skipped)
		default:
			d.ok(checkSession, v.thing, "%s, and says: new at the last connection", skipped)
		}
	}
	return visits
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.UTC().Format(time.RFC3339)
}

// ask has the running bridge ask for the Thing's jobs, as any program may.
func (d *Doctor) ask(ctx context.Context, v visit) Finding {
	f := Finding{Check: checkPublish, Subject: v.thing, Status: Skip}
	switch {
	case !v.connected():
		f.Detail = "needs connect"
		return f
	case d.nc == nil:
		f.Detail = "skipped: fleetbridge is running, and can't be asked over NATS"
		return f
	}
	ctx, cancel := d.step(ctx)
	defer cancel()
	subject := d.subjects.Print(mapping.SpaceReq, mapping.Address{Thing: mapping.Thing(v.thing), Channel: mapping.JobsGet})
	began := time.Now()
	question := nats.NewMsg(subject)
	question.Header.Set(wire.HeaderTimeout, (d.options.Timeout * 4 / 5).String()) // the bridge says that nobody answers before we stop listening
	answer, err := d.nc.RequestMsgWithContext(ctx, question)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		f.Status, f.Detail, f.Mend = Fail, "nobody answers on "+subject, "restart fleetbridge"
	case err != nil:
		f.Detail = "skipped: fleetbridge is running, and asking it on " + subject + " gave " + cause(err)
	case answer.Header.Get("Nats-Service-Error-Code") == "504":
		f.Status, f.Detail = Warn, "jobs/get through the running fleetbridge is not answered by Fleets"
		f.Mend = "check the broker's rules for $emqx, that Fleets can publish, and that the Thing is registered by this name"
	case answer.Header.Get("Nats-Service-Error-Code") != "":
		f.Status, f.Detail = Fail, "jobs/get through the running fleetbridge: "+answer.Header.Get("Nats-Service-Error")
		f.Mend = "look at the log of fleetbridge"
	default:
		f.Status, f.Detail = OK, fmt.Sprintf("jobs/get through the running fleetbridge is answered by Fleets (%s)", brief(time.Since(began)))
	}
	return f
}
