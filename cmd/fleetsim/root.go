package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fleetbridge/fleetsim"
)

// newRoot makes the command, which simulates, and its subcommands.
func newRoot(s streams) *cobra.Command {
	f := &flags{}
	root := &cobra.Command{
		Use:   "fleetsim",
		Short: "The EMQX Fleets cloud, simulated",
		Long: "The EMQX Fleets cloud, simulated: MQTT 5 and HTTP, with every flow printed as it happens, until SIGINT\n" +
			"or SIGTERM. A second signal ends it at once.",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			f.complete(c.Flags().Changed, os.Getenv)
			if err := f.check(); err != nil {
				return &usageError{err}
			}
			return simulate(c.Context(), f.options(s.out))
		},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w, see %s --help", err, c.CommandPath())
	})
	declare(root, f.sections())
	root.AddCommand(newVersion(s), newConform(s), helpLike())
	root.AddCommand(extraCommands()...)
	addCobras(root)
	return root
}

// helpLike is a page of help: the brokers and knobs of --like.
func helpLike() *cobra.Command {
	var out strings.Builder
	out.WriteString("Brokers, as they are without configuration:\n")
	for _, l := range fleetsim.DescribeLikes() {
		fmt.Fprintf(&out, "\n  %s: %s.\n    %s\n", l[0], l[1], strings.ReplaceAll(l[2], ",", " "))
	}
	out.WriteString("\nKnobs, which go behind a name or stand alone, as in --like emqx-5.8,max-subscriptions=10:\n\n")
	for _, k := range fleetsim.Knobs {
		name := k.Name
		if k.Value != "" {
			name += "=" + k.Value
		}
		fmt.Fprintf(&out, "  %-35s %s\n", name, k.Meaning)
	}
	return &cobra.Command{Use: "like", Short: "The brokers and knobs of --like", Long: strings.TrimRight(out.String(), "\n")}
}

// addCobras adds cobra's help and completion, and has them refuse what they don't know.
func addCobras(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return usagef("help: %q is no command, see fleetsim --help", strings.Join(args, " "))
				}
				return nil
			}
		case "completion":
			var shells []string
			for _, shell := range c.Commands() {
				shell.Args = noArgs
				shells = append(shells, shell.Name())
			}
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(_ *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usagef("completion: %q is no shell, use %s", args[0], strings.Join(shells, ", "))
				}
				return usagef("completion: name a shell: %s", strings.Join(shells, ", "))
			}
		}
	}
}

func simulate(ctx context.Context, o fleetsim.Options) error {
	sim, err := fleetsim.New(o)
	if err != nil {
		return err
	}
	return sim.Run(ctx)
}

// declare adds the flags and shows them by sections in the help.
func declare(root *cobra.Command, sections []section) {
	for _, s := range sections {
		root.Flags().AddFlagSet(s.FlagSet)
	}
	_ = root.MarkFlagFilename("ca-file", "pem", "crt", "cer")
	_ = root.RegisterFlagCompletionFunc("like", cobra.FixedCompletions(fleetsim.Likes(), cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(levels, cobra.ShellCompDirectiveNoFileComp))
	whole := root.UsageFunc()
	root.SetUsageFunc(func(c *cobra.Command) error {
		if c != root {
			return whole(c)
		}
		var out strings.Builder
		fmt.Fprintf(&out, "Usage:\n  %s [flags]\n  %s COMMAND\n\nCommands:\n", c.Name(), c.Name())
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" || sub.IsAdditionalHelpTopicCommand() {
				fmt.Fprintf(&out, "  %-*s %s\n", c.NamePadding(), sub.Name(), sub.Short)
			}
		}
		for _, s := range sections {
			fmt.Fprintf(&out, "\n%s:\n%s", s.title, s.FlagUsages())
		}
		_, err := fmt.Fprint(c.OutOrStdout(), out.String())
		return err
	})
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("takes no arguments, %q is one, see %s --help", args[0], c.CommandPath())
	}
	return nil
}
