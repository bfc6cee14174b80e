package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
)

// newRoot makes the command with all its subcommands.
func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "fleetbridge",
		Short: "One MQTT session per EMQX Fleets Thing, shared by every program on the gateway as NATS subjects",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name a command: %s; fleetbridge help tells more", strings.Join(commandNames(c), ", "))
			}
			if near := gateway.Closest(args[0], commandNames(c)); near != "" {
				return usagef("%q is no command, did you mean %s?", args[0], near)
			}
			return usagef("%q is no command, use %s", args[0], strings.Join(commandNames(c), ", "))
		},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%s: %s, see %s --help", c.Name(), err, c.CommandPath())
	})
	root.AddCommand(newRun(s), newDemo(s), newCheck(s), newExplain(s), newValidate(s), newDead(s), newQueue(s), newCluster(s), newThings(s), newStatus(s), newBundle(s), newTail(s), newTrace(s), newConsole(s), newInit(s), newACL(s), newHealthcheck(s), newBench(s), newDoctor(s), newAsyncAPI(s), newThingType(s), newVersion(s))
	root.AddCommand(extraCommands(s)...)
	addCobras(root)
	return root
}

// addCobras adds cobra's help and completion, and has them refuse what they don't know.
func addCobras(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err == nil && len(rest) == 0 {
					return nil
				}
				if !found.HasAvailableSubCommands() {
					found = found.Parent()
				}
				return usagef("help: %q is no command, use one of: %s", strings.Join(args, " "), strings.Join(commandNames(found), ", "))
			}
		case "completion":
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(c *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usagef("completion: %q is no shell, use %s", args[0], strings.Join(commandNames(c), ", "))
				}
				return usagef("completion: name a shell: %s", strings.Join(commandNames(c), ", "))
			}
			for _, shell := range c.Commands() {
				shell.Args = between(0, 0, "")
			}
		}
	}
}

func commandNames(c *cobra.Command) []string {
	var out []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			out = append(out, sub.Name())
		}
	}
	return out
}

// between checks the number of arguments; what names the arguments.
func between(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s: %s is missing, see %s --help", c.Name(), what, c.CommandPath())
		case len(args) > most && most == 0:
			return usagef("%s: takes no arguments, %q is one", c.Name(), args[0])
		case len(args) > most:
			return usagef("%s: %q is one argument too many, see %s --help", c.Name(), args[most], c.CommandPath())
		}
		return nil
	}
}

// configFlag adds --config for a command that needs a configuration.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", "", configHelp)
	_ = c.MarkFlagFilename("config", "yaml", "yml")
}

// ownConfigFlag adds --config for a command that does without one.
func ownConfigFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", "", "configuration `FILE`")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
}

// Where a configuration is looked for when --config does not say.
const configVariable = "FLEETBRIDGE_CONFIG"

var configPlaces = []string{"./fleetbridge.yaml", "/etc/fleetbridge/fleetbridge.yaml"}

var configHelp = "configuration `FILE`; without it $" + configVariable + ", " + strings.Join(configPlaces, ", or ")

// findConfig returns path or, if it is empty, the first of the usual files that is there. A file that exists but can't be
// looked at counts, so that the user sees its error.
func findConfig(c *cobra.Command, path string) (string, error) {
	if path != "" {
		return path, nil
	}
	if path = os.Getenv(configVariable); path != "" {
		return path, nil
	}
	for _, place := range configPlaces {
		if _, err := os.Stat(place); !errors.Is(err, fs.ErrNotExist) {
			return place, nil
		}
	}
	return "", usagef("%s: there is no configuration: give --config FILE, set %s, or write %s; fleetbridge init makes one",
		strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" "), configVariable, strings.Join(configPlaces, " or "))
}

// loadConfig reads the file that --config names, or the one that is found without it, which path names from then on. Its
// problems are printed as they are, each with its file and line.
func loadConfig(c *cobra.Command, path *string) (*gateway.Config, error) {
	_, cfg, err := loadFile(c, path)
	return cfg, err
}

// loadFile is loadConfig for a caller that follows the file from then on.
func loadFile(c *cobra.Command, path *string) (_ *gateway.File, _ *gateway.Config, err error) {
	if *path, err = findConfig(c, *path); err != nil {
		return nil, nil, err
	}
	file := gateway.NewFile(*path, os.LookupEnv)
	cfg, err := file.Load(c.Context())
	if err != nil {
		c.PrintErrln(err)
		return nil, nil, errReported
	}
	return file, cfg, nil
}
