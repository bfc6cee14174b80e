package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"fleetbridge/bridge/fleetstest"
	"fleetbridge/mapping"
)

// flags are the command line.
type flags struct {
	Broker   string `placeholder:"URL" xor:"broker" help:"Use this MQTT 5 broker (mqtt, mqtts, ws, wss; user:password@ before the host)."`
	MQTT     string `name:"mqtt" placeholder:"HOST:PORT" xor:"broker" help:"Listen here with a broker of its own (default: 127.0.0.1:1883)."`
	CAFile   string `name:"ca-file" placeholder:"FILE" help:"CA certificates for mqtts and wss (default: the system's)."`
	ClientID string `name:"client-id" default:"fleets-simulator" help:"Client id at the broker of --broker."`
	HTTP     string `name:"http" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Listen here for the HTTP API (default: ${default})."`

	APIKey    string `name:"api-key" env:"FLEETSIM_API_KEY" help:"Key that HTTP clients must present; with neither key nor secret all may come in."`
	APISecret string `name:"api-secret" env:"FLEETSIM_API_SECRET" help:"Secret that HTTP clients must present."`

	Thing      []string `placeholder:"NAME" sep:"none" help:"Register a Thing; may be repeated."`
	AutoCreate bool     `help:"Register Things when they are first heard of."`

	ReplaceReported bool `group:"What the protocol leaves open" help:"A report replaces the reported state instead of being merged into it."`
	RepublishDelta  bool `group:"What the protocol leaves open" help:"Publish a delta that is left after a report again."`
	WholeDesired    bool `group:"What the protocol leaves open" help:"Push the whole desired state instead of the patch."`
	StartBumps      bool `group:"What the protocol leaves open" help:"Raise a job's versionNumber when it starts."`
	TerseUpdates    bool `group:"What the protocol leaves open" help:"Leave executionState out of accepted job updates unless asked for."`

	Seed        uint64        `group:"Misbehaviour" help:"Seed of the random faults."`
	LateAnswers time.Duration `group:"Misbehaviour" help:"Answer jobs questions up to this late."`
	DropAnswers float64       `group:"Misbehaviour" help:"Probability that an answer is not sent."`
	DropToken   float64       `group:"Misbehaviour" help:"Probability that an answer lacks its clientToken."`
	RejectRate  float64       `group:"Misbehaviour" help:"Probability that a jobs question is rejected."`
	Duplicate   float64       `group:"Misbehaviour" help:"Probability that a message is sent twice."`
	Reorder     float64       `group:"Misbehaviour" help:"Probability that a message is overtaken by the next."`
	ReorderWait time.Duration `group:"Misbehaviour" default:"100ms" help:"How long such a message waits for the next (default: ${default})."`

	trust *tls.Config

	LogLevel string `default:"info" enum:"debug,info,warn,error" help:"Least level to print: debug (with payloads), info, warn or error (default: ${default})."`
}

// keep is how much a simulator that may run for days remembers of what it was told.
const keep = 1000

var errHelp = errors.New("help was asked for")

// parse reads and checks the command line. With --help it prints the help and returns errHelp.
func parse(args []string, out io.Writer) (*flags, error) {
	f, helped := &flags{}, false
	parser, err := kong.New(f, kong.Name("fleetsim"), kong.Writers(out, out), kong.Exit(func(int) { helped = true }),
		kong.Description("The EMQX Fleets cloud, simulated: MQTT 5 and HTTP, with every flow printed as it happens."))
	if err != nil {
		return nil, err
	}
	_, err = parser.Parse(args)
	if helped {
		return nil, errHelp
	}
	if err != nil {
		return nil, err
	}
	return f, f.check()
}

// check finds what the flags' types let through.
func (f *flags) check() error {
	var problems []error
	if f.Broker != "" {
		if _, err := fleetstest.ParseBroker(f.Broker); err != nil {
			problems = append(problems, fmt.Errorf("--broker: %w", err))
		}
	}
	if err := f.loadCA(); err != nil {
		problems = append(problems, err)
	}
	for name, address := range map[string]string{"--mqtt": f.MQTT, "--http": f.HTTP} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			problems = append(problems, fmt.Errorf("%s %q: write host:port", name, address))
		}
	}
	for i, name := range f.Thing {
		if _, err := mapping.ParseThing(name); err != nil {
			problems = append(problems, fmt.Errorf("--thing: %w", err))
		}
		if slices.Contains(f.Thing[:i], name) {
			problems = append(problems, fmt.Errorf("--thing %q: is there twice", name))
		}
	}
	if err := f.misbehaviour().Check(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func (f *flags) loadCA() error {
	if f.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(f.CAFile)
	if err != nil {
		return fmt.Errorf("--ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("--ca-file %s: holds no certificate in PEM", f.CAFile)
	}
	f.trust = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return nil
}

func (f *flags) misbehaviour() fleetstest.Misbehaviour {
	return fleetstest.Misbehaviour{
		Seed: f.Seed, LateAnswers: f.LateAnswers, DropAnswers: f.DropAnswers, DropToken: f.DropToken,
		RejectRate: f.RejectRate, Duplicate: f.Duplicate, Reorder: f.Reorder, ReorderWait: f.ReorderWait,
	}
}

func (f *flags) options(out io.Writer) fleetstest.Options {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.LogLevel)) // one of the enum
	o := fleetstest.Options{
		Log:    slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})),
		Broker: f.Broker, TLSConfig: f.trust, ClientID: f.ClientID, HTTPListen: f.HTTP, APIKey: f.APIKey, APISecret: f.APISecret,
		Things: f.Thing, AutoCreate: f.AutoCreate, ReplaceReported: f.ReplaceReported, RepublishDelta: f.RepublishDelta,
		WholeDesired: f.WholeDesired, StartBumps: f.StartBumps, TerseUpdates: f.TerseUpdates,
		Misbehaviour: f.misbehaviour(), Keep: keep,
	}
	if f.Broker == "" {
		o.Embedded.Listen = f.MQTT
		if o.Embedded.Listen == "" {
			o.Embedded.Listen = "127.0.0.1:1883"
		}
	}
	return o
}
