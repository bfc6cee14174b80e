package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

func newExplain(s streams) *cobra.Command {
	var asJSON bool
	var prefix string
	c := &cobra.Command{
		Use:   "explain [TOPIC or SUBJECT]",
		Short: "Show address, both spellings, direction, schema and rules",
		Long: "Show what a topic or subject is: its address, both spellings, direction, schema and rules. A channel's\n" +
			"name will do too. Wildcards and placeholders such as {t} stand for anything. Without an argument the\n" +
			"whole route table is shown.",
		Example: "  fleetbridge explain '$emqx/things/pump-07/shadow/update'\n" +
			"  fleetbridge explain 'fleets.up.{t}.jobs.>'",
		Args:              between(0, 1, "TOPIC or SUBJECT"),
		ValidArgsFunction: completeChannel,
		RunE: func(_ *cobra.Command, args []string) error {
			subjects, err := mapping.NewSubjects(prefix)
			if err != nil {
				return usagef("explain: --prefix: %s", err)
			}
			catalog, err := schemas.New(schemas.Options{})
			if err != nil {
				return err
			}
			found := everything()
			if len(args) > 0 {
				if found, err = find(subjects, args[0]); err != nil {
					return err
				}
			}
			entries := make([]entry, len(found))
			for i, m := range found {
				entries[i] = describe(subjects, catalog, m)
			}
			return show(s, entries, asJSON, len(args) == 0)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: {\"routes\":[…]}")
	c.Flags().StringVar(&prefix, "prefix", "fleets", "subject `PREFIX`")
	return c
}

func show(s streams, entries []entry, asJSON, table bool) error {
	switch {
	case asJSON:
		out := jsonLines(s.out)
		out.SetIndent("", "  ")
		return out.Encode(map[string][]entry{"routes": entries})
	case table:
		return printTable(s, entries)
	}
	for i, e := range entries {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		if _, err := fmt.Fprint(s.out, e.text()); err != nil {
			return err
		}
	}
	return nil
}

// printTable has a line for each row of the protocol. What is asked with a req subject is the up
// subject's twin, so only the odd ones are named.
func printTable(s streams, entries []entry) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHANNEL\tTOPIC\tSUBJECT\tANSWERED TWIN")
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	for _, e := range entries {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Name, dash(e.Topic), dash(e.Store+e.Handler), dash(e.Request))
	}
	return w.Flush()
}

// text is the entry for people.
func (e entry) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", e.Name, e.About)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-10s %s\n", name, value)
		}
	}
	direction, way := "up, from local programs to the cloud", "stored, then sent to the broker"
	if e.Direction == "down" {
		direction, way = "down, from the cloud to local programs", "stored for replay, seen at once by subscribers"
	}
	line("direction", direction)
	line("class", e.Class)
	line("thing", e.Thing)
	line(e.IDName, e.ID)
	line("topic", e.Topic)
	if e.Topic != "" {
		line("", "QoS 1, never retained")
	}
	subject := func(subject, what string) {
		if subject != "" {
			line("subject", subject)
			line("", what)
		}
	}
	subject(e.Store, way)
	subject(e.Request, e.answer())
	subject(e.Handler, "subscribe and reply; several programs share it in a queue group")
	line("dead", e.Dead)
	line("once per", e.Identity)
	if e.Expiry > 0 {
		line("expires", fmt.Sprintf("after %gs in the store, then it is a dead letter", e.Expiry))
	}
	if e.EmptyOK {
		line("empty", "a payload of no bytes is allowed")
	}
	line("schema", e.Schema)
	for _, r := range e.Rules {
		line("", r)
	}
	return b.String()
}

// answer says what comes back from a request.
func (e entry) answer() string {
	switch {
	case e.Name == shadowGet:
		return "answered with the document, or the last known one with the header Fleets-Stale"
	case e.Accepted != "":
		return "sent at once, answered with the payload of " + e.Accepted + ", or an error for " + e.Rejected
	}
	return "checked, then stored; answered with the PubAck, or an error"
}
