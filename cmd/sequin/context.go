package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/target"
)

func newContext(w world) *cobra.Command {
	return group("context", "Keep the URLs of servers under names",
		newContextAdd(w), newContextUse(w), newContextList(w), newContextRemove(w))
}

func newContextAdd(w world) *cobra.Command {
	var c target.Context
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME --url URL [--token-file FILE] [--json]",
		Short: "Add a server, or change it",
		Long: `Add a server under a name, or change it. The first one is used at once, others
after "sequin context use". The token stays in its file: the contexts keep the
path only.`,
		Example: `  sequin context add production --url https://sequin.example.com --token-file ~/.sequin-token
  sequin context use production`,
		Args: arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := target.CheckName(args[0]); err != nil {
				return err
			}
			if c.URL == "" {
				return cli.Usage("--url is missing: usage is %q", cmd.UseLine())
			}
			if err := c.Check(); err != nil {
				return err
			}
			if c.TokenFile != "" {
				var err error
				if c.TokenFile, err = filepath.Abs(c.TokenFile); err != nil {
					return err
				}
			}
			return changeContexts(w, asJSON, "added", args[0], func(all *target.Contexts) (string, error) {
				all.Contexts[args[0]] = c
				if all.Current == "" {
					all.Current = args[0]
				}
				return fmt.Sprintf("context %q is %s", args[0], c.URL), nil
			})
		},
	}
	cmd.Flags().StringVar(&c.URL, "url", "", "`URL` of the server")
	cmd.Flags().StringVar(&c.TokenFile, "token-file", "", "`file` with the token of the server; default no token")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newContextUse(w world) *cobra.Command {
	var asJSON bool
	cmd := completeContexts(w, &cobra.Command{
		Use:   "use NAME [--json]",
		Short: "Use a server unless --url or --context names another",
		Args:  arguments(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(w, asJSON, "using", args[0], func(all *target.Contexts) (string, error) {
				c, err := all.Get(args[0])
				all.Current = args[0]
				return fmt.Sprintf("using context %q, %s", args[0], c.URL), err
			})
		},
	})
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newContextRemove(w world) *cobra.Command {
	var asJSON bool
	cmd := completeContexts(w, &cobra.Command{
		Use:   "rm NAME [--json]",
		Short: "Remove a server; its token file stays",
		Args:  arguments(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(w, asJSON, "removed", args[0], func(all *target.Contexts) (string, error) {
				_, err := all.Get(args[0])
				delete(all.Contexts, args[0])
				if all.Current == args[0] {
					all.Current = ""
				}
				return fmt.Sprintf("removed context %q", args[0]), err
			})
		},
	})
	jsonFlag(cmd, &asJSON)
	return cmd
}

func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print one JSON object")
}

// changeContexts changes the contexts of the user, and prints what change says about it or, as JSON, the name with what has
// happened to it.
func changeContexts(w world, asJSON bool, happened, name string, change func(*target.Contexts) (done string, err error)) error {
	all, err := target.Load(w.lookup)
	if err != nil {
		return err
	}
	done, err := change(all)
	if err != nil {
		return err
	}
	if err := all.Save(); err != nil {
		return err
	}
	if asJSON {
		return cli.JSON(w.out, map[string]string{happened: name})
	}
	_, err = fmt.Fprintln(w.out, done)
	return err
}

// listedContext is a context as "context ls --json" prints it.
type listedContext struct {
	Name string `json:"name"`
	target.Context
	Current bool `json:"current"`
}

func newContextList(w world) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [--json]",
		Short: "List the servers",
		Args:  arguments(0),
		RunE: func(*cobra.Command, []string) error {
			all, err := target.Load(w.lookup)
			if err != nil {
				return err
			}
			list := []listedContext{}
			var rows [][]string
			for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
				c := listedContext{name, all.Contexts[name], name == all.Current}
				list = append(list, c)
				mark, token := "", "-"
				if c.Current {
					mark = "*"
				}
				if c.TokenFile != "" {
					token = c.TokenFile
				}
				rows = append(rows, []string{mark, name, c.URL, token})
			}
			if asJSON {
				return cli.JSON(w.out, list)
			}
			return cli.Table(w.out, []string{"", "NAME", "URL", "TOKEN FILE"}, rows, `no contexts: add one with "sequin context add"`)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

// completeContextFlag completes --context with the names of the contexts.
func completeContextFlag(w world, cmd *cobra.Command) {
	complete := func(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return contextNames(w)
	}
	must(cmd.RegisterFlagCompletionFunc("context", complete))
}

func contextNames(w world) ([]string, cobra.ShellCompDirective) {
	all, err := target.Load(w.lookup)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(all.Contexts)), cobra.ShellCompDirectiveNoFileComp
}

// must panics if a flag that is to be completed does not exist.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// completeContexts completes the argument of a command with the names of the contexts.
func completeContexts(w world, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return contextNames(w)
	}
	return cmd
}
