package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"fleetbridge/schemas"
)

func newThingType(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:     "thing-type",
		Example: "  fleetbridge thing-type check thermostat.json\n  fleetbridge thing-type schemas thermostat.json --to schemas/thermostat",
		Short:   "Look at a Fleets Thing Type, or make schemas of it",
		Long: "A Fleets Thing Type says which properties, events and commands a Thing has. If things[].thing_type names its\n" +
			"file, the bridge checks reports, events, command params and results by it.",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("thing-type: %q is no command, use check or schemas", args[0])
			}
			return usagef("thing-type: name what to do: check FILE or schemas FILE")
		},
	}
	c.AddCommand(newThingTypeCheck(s), newThingTypeSchemas(s))
	return c
}

// loadThingType reads the file and compiles it. What is not understood goes to the error stream.
func loadThingType(s streams, path string) (*schemas.ThingType, error) {
	catalog, err := schemas.New(schemas.Options{})
	if err != nil {
		return nil, err
	}
	_, t, err := catalog.LoadThingType(path)
	if err != nil {
		return nil, err
	}
	for _, note := range t.Notes {
		fmt.Fprintf(s.err, "warning: %s: %s\n", path, printable(note.String()))
	}
	return t, nil
}

func newThingTypeCheck(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Say what is wrong with a Thing Type, and what of it is not understood", Args: between(1, 1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := loadThingType(s, args[0])
			if err != nil {
				return err
			}
			properties, events, commands := t.Counts()
			_, err = fmt.Fprintf(s.out, "OK: %s %s: %d properties, %d events, %d commands\n",
				printable(t.Name), printable(t.Version), properties, events, commands)
			return err
		},
	}
}

func newThingTypeSchemas(s streams) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "schemas FILE", Short: "Make a schema directory of a Thing Type", Args: between(1, 1, "FILE"),
		Long: "Make a schema directory of a Thing Type, for things[].schema_dir or for other tools. Without --to the schemas are\n" +
			"printed as one JSON object, each under its path. A file that is there is never touched.",
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := loadThingType(s, args[0])
			if err != nil {
				return err
			}
			files := t.Files()
			if dir == "" {
				all := map[string]json.RawMessage{}
				for name, text := range files {
					all[name] = text
				}
				out := jsonLines(s.out)
				out.SetIndent("", "  ")
				return out.Encode(all)
			}
			for _, name := range slices.Sorted(maps.Keys(files)) {
				path := filepath.Join(dir, filepath.FromSlash(name))
				if err := writeNew(path, files[name]); err != nil {
					return fmt.Errorf("thing-type schemas: %w", err)
				}
				fmt.Fprintln(s.out, path)
			}
			return nil
		},
	}
	c.Flags().StringVar(&dir, "to", "", "`DIR`ectory to write them to")
	_ = c.MarkFlagDirname("to")
	return c
}

// writeNew writes a file that is not there yet, and the directories above it.
func writeNew(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := createNew(path, 0o644, "name another directory")
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
