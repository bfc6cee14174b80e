package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/registry"
	"fleetbridge/mapping"
)

func newThings(s streams) *cobra.Command {
	t := deadTarget{command: "things"}
	c := &cobra.Command{
		Use:   "things",
		Short: "Add and remove Things of running bridges, and see which bridge has them",
		Long: "Add and remove Things of running bridges, and see which bridge has them. With the embedded NATS server, each\n" +
			"Thing is a file in things_dir. With nats.url, all are in the bucket FLEETS_THINGS, which every bridge with this\n" +
			"nats.url follows. Things of the configuration are shown, too, but changed only there. The sessions of other\n" +
			"Things go on.",
		Example: "  fleetbridge things add pump-07 pump-08\n" +
			"  fleetbridge things add -f site-7.yaml       # things: [{name: pump-07, username: p7}, …]\n" +
			"  fleetbridge things where pump-07",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("things: %q is no command, use add, rm, ls, show or where", args[0])
			}
			return usagef("things: name what to do: add NAME…, rm NAME…, ls, show NAME or where NAME")
		},
	}
	c.PersistentFlags().StringVarP(&t.config, "config", "c", "", configHelp)
	_ = c.MarkPersistentFlagFilename("config", "yaml", "yml")
	t.prefix = "fleets" // that of the configuration counts
	c.AddCommand(newThingsAdd(s, &t), newThingsRm(s, &t), newThingsLs(s, &t), newThingsShow(s, &t), newThingsWhere(s, &t))
	return c
}

// thingsPatience bounds what is asked of NATS.
const thingsPatience = 20 * time.Second

// fleet is what the configuration, the registry and the bridges know of Things.
type fleet struct {
	cfg      *gateway.Config // with the Things of the registry
	files    *gateway.Config // without
	nc       *nats.Conn      // nil: the bridge with the embedded server does not answer
	away     error           // why
	subjects mapping.Subjects
	registry *registry.Registry // nil with the embedded server
	refused  []gateway.Refused
	bridges  int // how many answer
}

// fleet reads the configuration and the registry. Without the NATS server of nats.url that is an error; a bridge with the embedded
// server may be away.
func (t *deadTarget) fleet(c *cobra.Command) (*fleet, error) {
	cfg, err := loadConfig(c, &t.config)
	if err != nil {
		return nil, err
	}
	f := &fleet{cfg: cfg, files: cfg, bridges: 1}
	if f.nc, f.subjects, _, err = t.connect(c); err != nil {
		if f.away = err; cfg.NATS.URL != "" || errors.Is(err, errReported) {
			return nil, err
		}
		return f, nil
	}
	if cfg.NATS.URL == "" {
		return f, nil
	}
	if err := f.read(c.Context()); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *fleet) close() {
	if f.nc != nil {
		f.nc.Close()
	}
}

// read reads the registry, and counts the bridges that run.
func (f *fleet) read(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, thingsPatience)
	defer cancel()
	if f.registry, err = registry.New(f.nc, f.subjects, f.cfg.NATS.Replicas); err != nil {
		return err
	}
	if _, err := f.registry.Follow(ctx); err != nil {
		return fmt.Errorf("things: %w", err)
	}
	f.cfg, f.refused = f.files.WithRegistry(f.registry.Entries())
	if !f.cfg.Cluster.On() {
		return nil
	}
	members, err := ownership.Members(ctx, f.nc, f.subjects)
	if err != nil && !errors.Is(err, ownership.ErrNoCluster) {
		return fmt.Errorf("things: %w", err)
	}
	f.bridges = 0
	for _, m := range members {
		if m.State != "left" && m.State != "silent" {
			f.bridges++
		}
	}
	return nil
}

// thingRecord is a Thing for machines.
type thingRecord struct {
	Thing     string `json:"thing"`
	From      string `json:"from"`             // the file that it stands in, with the line; or registry
	Bridge    string `json:"bridge,omitempty"` // that has its session, if that is one of a cluster
	Here      bool   `json:"running"`          // a bridge has its session
	Connected bool   `json:"connected"`
	Queued    uint64 `json:"queued"`
	Refused   string `json:"refused,omitempty"`
}

// names are all Things of the configuration and of the registry, in order.
func (f *fleet) names() []string {
	var out []string
	for _, t := range f.cfg.Things {
		out = append(out, t.Name)
	}
	for _, r := range f.refused {
		if r.Thing != "" && !slices.Contains(out, r.Thing) {
			out = append(out, r.Thing)
		}
	}
	slices.Sort(out)
	return out
}

// ask asks the bridges for some Things.
func (f *fleet) ask(ctx context.Context, names []string) ([]thingRecord, []registry.Standings, error) {
	var answers []registry.Standings
	if f.nc != nil {
		var err error
		if answers, err = registry.AskStandings(ctx, f.nc, f.subjects, names, f.bridges); err != nil {
			return nil, nil, fmt.Errorf("things: %w", err)
		}
	}
	at := map[string]int{}
	out := make([]thingRecord, len(names))
	for i, name := range names {
		out[i] = thingRecord{Thing: name, From: f.cfg.Origin(name)}
		if out[i].From == "" {
			out[i].From = gateway.OfRegistry
		}
		at[name] = i
	}
	for _, r := range f.refused {
		if i, asked := at[r.Thing]; asked {
			out[i].Refused = r.Reason
		}
	}
	for _, a := range answers {
		for _, s := range a.Things {
			i, asked := at[s.Thing]
			if !asked {
				continue
			}
			if s.Here {
				out[i].Here, out[i].Bridge, out[i].Connected, out[i].Queued = true, a.Bridge, s.Connected, s.Queued
			}
			if s.Refused != "" {
				out[i].Refused = s.Refused
			}
		}
	}
	return out, answers, nil
}

// state says where a Thing is, in a few words.
func (r thingRecord) state() (bridge, connected, queued string) {
	if !r.Here {
		return "-", "-", "-"
	}
	if bridge = r.Bridge; bridge == "" {
		bridge = "here"
	}
	connected = "no"
	if r.Connected {
		connected = "yes"
	}
	return bridge, connected, fmt.Sprint(r.Queued)
}

func newThingsLs(s streams, t *deadTarget) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "ls", Short: "List the Things, where they stand, and which bridge has them", Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := t.fleet(c)
			if err != nil {
				return err
			}
			defer f.close()
			records, _, err := f.ask(c.Context(), f.names())
			if err != nil {
				return err
			}
			if asJSON {
				lines := jsonLines(s.out)
				for _, r := range records {
					if err := lines.Encode(r); err != nil {
						return err
					}
				}
				return nil
			}
			f.mention(s)
			out := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(out, "THING\tBRIDGE\tCONNECTED\tQUEUED\tFROM")
			for _, r := range records {
				bridge, connected, queued := r.state()
				from := printable(r.From)
				if r.Refused != "" {
					from += ", refused: " + printable(r.Refused)
				}
				fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", printable(r.Thing), printable(bridge), connected, queued, from)
			}
			return out.Flush()
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

// mention says that no bridge could be asked.
func (f *fleet) mention(s streams) {
	if f.away != nil {
		fmt.Fprintln(s.err, f.away)
	}
}

// one asks for a Thing that there must be.
func (t *deadTarget) one(c *cobra.Command, name string) (*fleet, thingRecord, error) {
	f, err := t.fleet(c)
	if err != nil {
		return nil, thingRecord{}, err
	}
	defer f.close()
	if !slices.Contains(f.names(), name) {
		return nil, thingRecord{}, f.unknown(name)
	}
	records, _, err := f.ask(c.Context(), []string{name})
	if err != nil {
		return nil, thingRecord{}, err
	}
	return f, records[0], nil
}

func (f *fleet) unknown(name string) error {
	if near := gateway.Closest(name, f.names()); near != "" {
		return fmt.Errorf("things: no Thing %q, did you mean %s?", name, near)
	}
	return fmt.Errorf("things: no Thing %q; fleetbridge things ls lists those that there are", name)
}

func newThingsShow(s streams, t *deadTarget) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show NAME", Short: "Show the settings of a Thing, without secrets, and how it stands", Args: between(1, 1, "NAME"),
		ValidArgsFunction: t.complete,
		RunE: func(c *cobra.Command, args []string) error {
			f, r, err := t.one(c, args[0])
			if err != nil {
				return err
			}
			var settings [][2]string // keys and values
			if i := slices.IndexFunc(f.cfg.Things, func(t gateway.Thing) bool { return t.Name == r.Thing }); i >= 0 {
				t := f.cfg.Things[i]
				settings = [][2]string{{"client_id", t.ClientID}, {"username", t.Username}, {"password", t.Password.String()}, {"password_file", t.PasswordFile},
					{"tls.cert_file", t.TLS.CertFile}, {"tls.key_file", t.TLS.KeyFile}, {"schema_dir", t.SchemaDir}, {"thing_type", t.ThingType}, {"thing_type_name", t.TypeName}}
			}
			if asJSON {
				byKey := map[string]string{}
				for _, one := range settings {
					if one[1] != "" {
						byKey[one[0]] = one[1]
					}
				}
				return jsonLines(s.out).Encode(struct {
					thingRecord
					Settings map[string]string `json:"settings"`
				}{r, byKey})
			}
			f.mention(s)
			out := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			line := func(key, value string) {
				if value != "" {
					fmt.Fprintf(out, "%s\t%s\n", key, printable(value))
				}
			}
			bridge, connected, queued := r.state()
			line("thing", r.Thing)
			line("from", r.From)
			line("refused", r.Refused)
			line("bridge", bridge)
			line("connected", connected)
			line("queued", queued)
			for _, one := range settings {
				line(one[0], one[1])
			}
			return out.Flush()
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return c
}

func newThingsWhere(s streams, t *deadTarget) *cobra.Command {
	return &cobra.Command{Use: "where NAME", Short: "Tell which bridge has a Thing, whether it is connected, and how much waits; exit code 1: none has it", Args: between(1, 1, "NAME"),
		ValidArgsFunction: t.complete,
		RunE: func(c *cobra.Command, args []string) error {
			f, r, err := t.one(c, args[0])
			switch {
			case err != nil:
				return err
			case !r.Here && r.Refused != "":
				return fmt.Errorf("things: %s: no bridge has it, its entry in the registry is refused: %s", r.Thing, r.Refused)
			case !r.Here && f.away != nil:
				return f.away
			case !r.Here:
				return fmt.Errorf("things: %s: no bridge that answers has it", r.Thing)
			}
			where, connected := "here", "not connected"
			if r.Bridge != "" {
				where = "at " + printable(r.Bridge)
			}
			if r.Connected {
				connected = "connected"
			}
			_, err = fmt.Fprintf(s.out, "%s  %s, %s, %d messages wait\n", printable(r.Thing), where, connected, r.Queued)
			return err
		}}
}

// complete offers names of Things.
func (t *deadTarget) complete(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if c.Name() != "rm" && len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	path, err := findConfig(c, t.config)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cfg, err := gateway.Load(path, os.LookupEnv)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	f := &fleet{cfg: cfg, files: cfg}
	if cfg.NATS.URL != "" {
		if f.nc, f.subjects, _, err = t.connect(c); err == nil {
			defer f.close()
			_ = f.read(c.Context()) // else those of the files
		}
	}
	names := slices.DeleteFunc(f.names(), func(name string) bool {
		return !strings.HasPrefix(name, begun) || slices.Contains(args, name)
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
