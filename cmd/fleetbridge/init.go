package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
	"fleetbridge/mapping"
)

//go:embed init.yaml
var firstConfig string

func newInit(s streams) *cobra.Command {
	var first struct{ Thing, Server string }
	var path string
	c := &cobra.Command{
		Use:   "init [--thing NAME] [--server URL] [--config FILE]",
		Short: "Write a first configuration file with comments",
		Long: "Write a first configuration file with comments: the Thing, its broker, and what else most gateways need. An\n" +
			"existing file is never touched. Edit the file, check it with fleetbridge check, and try it with fleetbridge\n" +
			"doctor.",
		Example: "  fleetbridge init --thing pump-07 --server mqtts://broker.example.com:8883",
		Args:    between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := mapping.ParseThing(first.Thing); err != nil {
				return usagef("init: --thing: %s", err)
			}
			text, err := writeFirst(first)
			if err != nil {
				return err
			}
			if path == "-" {
				_, err := s.out.Write(text)
				return err
			}
			f, err := createNew(path, 0o600, "name another with --config")
			if err != nil {
				return fmt.Errorf("init: %w", err)
			}
			if _, err = f.Write(text); err == nil {
				err = f.Sync()
			}
			if err = errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("init: %s: %w", path, errors.Join(err, os.Remove(path)))
			}
			_, err = fmt.Fprintf(s.out, "%s is written; edit it, then: fleetbridge check, fleetbridge doctor, fleetbridge run\n", path)
			return err
		},
	}
	c.Flags().StringVar(&first.Thing, "thing", "thermostat-001", "`NAME` of the first Thing")
	c.Flags().StringVar(&first.Server, "server", "mqtts://broker.example.com:8883", "`URL` of the MQTT broker")
	c.Flags().StringVarP(&path, "config", "c", configPlaces[0], "`FILE` to write; -: standard output")
	return c
}

// writeFirst fills in the file.
func writeFirst(first struct{ Thing, Server string }) ([]byte, error) {
	if _, err := gateway.ParseServer(first.Server); err != nil {
		return nil, usagef("init: --server: %s", err)
	}
	t := template.Must(template.New("init.yaml").Funcs(template.FuncMap{"quote": quoteYAML}).Parse(firstConfig))
	var out bytes.Buffer
	if err := t.Execute(&out, first); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	return out.Bytes(), nil
}

// quoteYAML writes a value so that YAML reads it as text.
func quoteYAML(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
