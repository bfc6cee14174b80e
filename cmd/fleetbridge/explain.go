package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fleetbridge/internal/explain"
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
			found := explain.Everything()
			if len(args) > 0 {
				if found, err = explain.Find(subjects, args[0]); err != nil {
					return err
				}
			}
			entries := make([]explain.Entry, len(found))
			for i, m := range found {
				entries[i] = explain.Describe(subjects, catalog, m)
			}
			return show(s, entries, asJSON, len(args) == 0)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: {\"routes\":[…]}")
	c.Flags().StringVar(&prefix, "prefix", "fleets", "subject `PREFIX`")
	return c
}

func show(s streams, entries []explain.Entry, asJSON, table bool) error {
	switch {
	case asJSON:
		out := jsonLines(s.out)
		out.SetIndent("", "  ")
		return out.Encode(map[string][]explain.Entry{"routes": entries})
	case table:
		return printTable(s, entries)
	}
	for i, e := range entries {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		if _, err := fmt.Fprint(s.out, e.Text()); err != nil {
			return err
		}
	}
	return nil
}

// printTable has a line for each row of the protocol. What is asked with a req subject is the up
// subject's twin, so only the odd ones are named.
func printTable(s streams, entries []explain.Entry) error {
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
