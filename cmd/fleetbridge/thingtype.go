package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
	"fleetbridge/internal/plainfile"
	"fleetbridge/schemas"
)

func newThingType(s streams) *cobra.Command {
	c := &cobra.Command{
		Use: "thing-type",
		Example: "  fleetbridge thing-type check thermostat.json\n  fleetbridge thing-type schemas thermostat.json --to schemas/thermostat\n" +
			"  fleetbridge thing-type fetch com.acme.thermostat --to thermostat.json",
		Short: "Check or fetch a Fleets Thing Type, or make schemas of it",
		Long: "A Fleets Thing Type says which properties, events and commands a Thing has. If things[].thing_type names its\n" +
			"file, the bridge checks reports, events, command params and results by it. things[].thing_type_name has the\n" +
			"bridge fetch it by itself.",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("thing-type: %q is no command, use check, schemas or fetch", args[0])
			}
			return usagef("thing-type: name what to do: check FILE, schemas FILE or fetch NAME")
		},
	}
	c.AddCommand(newThingTypeCheck(s), newThingTypeSchemas(s), newThingTypeFetch(s))
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
	sayNotes(s, path, t)
	return t, nil
}

func sayNotes(s streams, path string, t *schemas.ThingType) {
	for _, note := range t.Notes {
		fmt.Fprintf(s.err, "warning: %s: %s\n", path, printable(note.String()))
	}
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
			name := strings.TrimSpace(t.Name + " " + t.Version)
			if name != "" {
				name += ": "
			}
			_, err = fmt.Fprintf(s.out, "OK: %s%d properties, %d events, %d commands\n", printable(name), properties, events, commands)
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

func newThingTypeFetch(s streams) *cobra.Command {
	var config, to string
	c := &cobra.Command{
		Use: "fetch NAME", Short: "Get a Thing Type from the Fleets API", Args: between(1, 1, "NAME"),
		Long: "Get a Thing Type from the Fleets API, with fleets.url and its key, for things[].thing_type. Without --to it is\n" +
			"printed. A file that is there is replaced in one step, and only by a Thing Type that the bridge can use; a running\n" +
			"bridge that has it takes it over. The key needs the permission \"GET /api/v1/thing-types\". No page of Fleets\n" +
			"documents this operation, so it may not be there; then save the Thing Type by hand.",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := loadConfig(c, &config)
			if err != nil {
				return err
			}
			return fetchThingType(c.Context(), s, cfg.Fleets, args[0], to)
		},
	}
	configFlag(c, &config)
	c.Flags().StringVar(&to, "to", "", "`FILE` to write it to")
	_ = c.MarkFlagFilename("to", "json")
	return c
}

// fetchThingType writes a Thing Type of the API to a file, or prints it.
func fetchThingType(ctx context.Context, s streams, f gateway.Fleets, name, to string) error {
	api, err := f.Open()
	if err != nil {
		return err
	}
	defer api.Close()
	text, err := api.ThingType(ctx, name)
	if err != nil {
		return fmt.Errorf("thing-type fetch: %w", err)
	}
	catalog, err := schemas.New(schemas.Options{})
	if err != nil {
		return err
	}
	_, t, err := catalog.MakeThingType(name, text)
	if err != nil {
		return err
	}
	sayNotes(s, printable(name), t)
	var lines bytes.Buffer
	if json.Indent(&lines, text, "", "  ") == nil && lines.Len() < schemas.MaxFileBytes {
		text = append(lines.Bytes(), '\n')
	}
	if to == "" {
		_, err = s.out.Write(text)
		return err
	}
	said := "written"
	if changed, err := plainfile.Replace(to, text, schemas.MaxFileBytes); err != nil {
		return fmt.Errorf("thing-type fetch: %w", err)
	} else if !changed {
		said = "is as it was"
	}
	_, err = fmt.Fprintf(s.out, "%s %s\n", to, said)
	return err
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
