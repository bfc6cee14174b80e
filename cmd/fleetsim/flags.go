package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
)

// flags are the command line.
type flags struct {
	broker, mqtt, caFile, clientID, http string
	apiKey, apiSecret                    string
	things                               []string
	autoCreate                           bool
	logLevel                             string

	replaceReported, republishDelta, wholeDesired, startBumps, terseUpdates bool

	misbehaviour fleetsim.Misbehaviour
	like         string
	traits       fleetsim.Traits

	trust *tls.Config
}

// keep is how much a simulator that may run for days remembers of what it was told.
const keep = 1000

// levels are what --log-level takes.
var levels = []string{"debug", "info", "warn", "error"}

// section is a group of flags under a heading of its own in the help.
type section struct {
	title string
	*pflag.FlagSet
}

// sections declare every flag, in the order of the help.
func (f *flags) sections() []section {
	return []section{f.connection(), f.open(), f.faults()}
}

func (f *flags) connection() section {
	s := newSection("Flags")
	s.StringVar(&f.broker, "broker", "", "use this MQTT 5 broker: mqtt, mqtts, ws or wss `URL`, user:password@ before the host")
	s.StringVar(&f.mqtt, "mqtt", "", "listen on this `HOST:PORT` with a broker of its own (default 127.0.0.1:1883)")
	s.StringVar(&f.like, "like", "", "the broker of its own behaves like this one: `NAME[,KNOB...]`, NAME is "+strings.Join(fleetsim.Likes(), ", ")+"; see fleetsim help like")
	s.StringVar(&f.caFile, "ca-file", "", "`FILE` of CA certificates for mqtts and wss (default the system's)")
	s.StringVar(&f.clientID, "client-id", "fleets-simulator", "client `ID` at the broker of --broker")
	s.StringVar(&f.http, "http", "127.0.0.1:8080", "listen on this `HOST:PORT` for the HTTP API")
	s.StringVar(&f.apiKey, "api-key", "", "`KEY` that HTTP clients must present; with neither key nor secret all may come in (default $"+keyVariable+")")
	s.StringVar(&f.apiSecret, "api-secret", "", "`SECRET` that HTTP clients must present (default $"+secretVariable+")")
	s.StringArrayVar(&f.things, "thing", nil, "register the Thing with this `NAME`; may be repeated")
	s.BoolVar(&f.autoCreate, "auto-create", false, "register Things when they are first heard of")
	s.StringVar(&f.logLevel, "log-level", "info", "least `LEVEL` to print: debug (with payloads), info, warn or error")
	s.BoolP("version", "v", false, "print version, commit and Go version")
	s.BoolP("help", "h", false, "print this")
	return s
}

func (f *flags) open() section {
	s := newSection("What the protocol leaves open")
	s.BoolVar(&f.replaceReported, "replace-reported", false, "a report replaces the reported state instead of being merged into it")
	s.BoolVar(&f.republishDelta, "republish-delta", false, "publish a delta that is left after a report again")
	s.BoolVar(&f.wholeDesired, "whole-desired", false, "push the whole desired state instead of the patch")
	s.BoolVar(&f.startBumps, "start-bumps", false, "raise a job's versionNumber when it starts")
	s.BoolVar(&f.terseUpdates, "terse-updates", false, "leave executionState out of accepted job updates unless asked for")
	return s
}

func (f *flags) faults() section {
	s, m := newSection("Misbehaviour"), &f.misbehaviour
	s.Uint64Var(&m.Seed, "seed", 0, "seed of the random faults")
	s.DurationVar(&m.LateAnswers, "late-answers", 0, "answer jobs questions up to this late")
	s.Float64Var(&m.DropAnswers, "drop-answers", 0, "probability that an answer is not sent")
	s.Float64Var(&m.DropToken, "drop-token", 0, "probability that an answer lacks its clientToken")
	s.Float64Var(&m.RejectRate, "reject-rate", 0, "probability that a jobs question is rejected")
	s.Float64Var(&m.Duplicate, "duplicate", 0, "probability that a message is sent twice")
	s.Float64Var(&m.Reorder, "reorder", 0, "probability that a message is overtaken by the next")
	s.DurationVar(&m.ReorderWait, "reorder-wait", 100*time.Millisecond, "how long such a message waits for the next")
	return s
}

func newSection(title string) section {
	s := section{title, pflag.NewFlagSet(title, pflag.ContinueOnError)}
	s.SortFlags = false
	return s
}

// The environment variables that stand in for --api-key and --api-secret, so that neither is in the
// list of processes.
const (
	keyVariable    = "FLEETSIM_API_KEY"
	secretVariable = "FLEETSIM_API_SECRET"
)

// complete fills what the command line, as changed tells, leaves to the environment.
func (f *flags) complete(changed func(name string) bool, env func(string) string) {
	if !changed("api-key") {
		f.apiKey = env(keyVariable)
	}
	if !changed("api-secret") {
		f.apiSecret = env(secretVariable)
	}
}

// check finds what the flags' types let through.
func (f *flags) check() error {
	var problems []error
	if f.broker != "" {
		if _, err := fleetsim.ParseBroker(f.broker); err != nil {
			problems = append(problems, fmt.Errorf("--broker: %w", err))
		}
	}
	if err := f.loadCA(); err != nil {
		problems = append(problems, err)
	}
	if f.broker != "" && f.mqtt != "" {
		problems = append(problems, errors.New("--broker and --mqtt: leave one out, the broker is either yours or the simulator's own"))
	}
	if f.broker != "" && f.like != "" {
		problems = append(problems, errors.New("--broker and --like: leave one out, only the simulator's own broker can behave like another"))
	}
	if f.like != "" {
		var err error
		if f.traits, err = fleetsim.Like(f.like); err != nil {
			for line := range strings.Lines(err.Error()) {
				problems = append(problems, fmt.Errorf("--like: %s", strings.TrimSpace(line)))
			}
		}
	}
	for _, a := range []struct{ name, address string }{{"--mqtt", f.mqtt}, {"--http", f.http}} {
		if _, _, err := net.SplitHostPort(a.address); a.address != "" && err != nil {
			problems = append(problems, fmt.Errorf("%s %q: write host:port", a.name, a.address))
		}
	}
	if !slices.Contains(levels, f.logLevel) {
		problems = append(problems, fmt.Errorf("--log-level %q: use %s", f.logLevel, strings.Join(levels, ", ")))
	}
	for i, name := range f.things {
		if _, err := mapping.ParseThing(name); err != nil {
			problems = append(problems, fmt.Errorf("--thing: %w", err))
		}
		if slices.Contains(f.things[:i], name) {
			problems = append(problems, fmt.Errorf("--thing %q: is there twice, leave one out", name))
		}
	}
	return errors.Join(append(problems, f.checkFaults()...)...)
}

// checkFaults names the flags that the fields of a misbehaviour are.
func (f *flags) checkFaults() (out []error) {
	joined, _ := f.misbehaviour.Check().(interface{ Unwrap() []error })
	if joined == nil {
		return nil
	}
	for _, err := range joined.Unwrap() {
		if wrong := (*fleetsim.FaultError)(nil); errors.As(err, &wrong) {
			err = fmt.Errorf("--%s: %s", kebab(wrong.Field), wrong.Reason)
		}
		out = append(out, err)
	}
	return out
}

// kebab spells DropAnswers drop-answers.
func kebab(field string) string {
	var b strings.Builder
	for i, r := range field {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func (f *flags) loadCA() error {
	if f.caFile == "" {
		return nil
	}
	pem, err := plainfile.Read(f.caFile, "certificate", 1<<20)
	if err != nil {
		return fmt.Errorf("--ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem.Data) {
		return fmt.Errorf("--ca-file %s: holds no certificate in PEM", f.caFile)
	}
	f.trust = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return nil
}

func (f *flags) options(out io.Writer) fleetsim.Options {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.logLevel)) // one of slog's own words: the flags are checked
	o := fleetsim.Options{
		Log:    slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})),
		Broker: f.broker, TLSConfig: f.trust, ClientID: f.clientID, HTTPListen: f.http, APIKey: f.apiKey, APISecret: f.apiSecret,
		Things: f.things, AutoCreate: f.autoCreate, ReplaceReported: f.replaceReported, RepublishDelta: f.republishDelta,
		WholeDesired: f.wholeDesired, StartBumps: f.startBumps, TerseUpdates: f.terseUpdates,
		Misbehaviour: f.misbehaviour, Keep: keep,
	}
	if f.broker == "" {
		o.Embedded.Listen, o.Embedded.Like = f.mqtt, f.traits
		if o.Embedded.Listen == "" {
			o.Embedded.Listen = "127.0.0.1:1883"
		}
	}
	return o
}
