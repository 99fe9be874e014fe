package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

func TestServeSaysWhatIsWrongWithAPostgres(t *testing.T) {
	const unreachable = "postgres://u@127.0.0.1:1/d"
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		want string
	}{
		{"a password that others see", nil, []string{"--postgres", "postgres://u:secret@h/d"}, 2, "put the URL into $SEQUIN_POSTGRES"},
		{"a password as a parameter", nil, []string{"--postgres", "postgres://h/d?password=secret"}, 2, "put the URL into $SEQUIN_POSTGRES"},
		{"two stores", nil, []string{"--postgres", unreachable, "--memory"}, 2, "--memory and --postgres exclude each other"},
		{"another two stores", nil, []string{"--postgres", unreachable, "--data", "d"}, 2, "--data and --postgres exclude each other"},
		{"a flag of a directory", nil, []string{"--postgres", unreachable, "--min-free", "1GiB"}, 2, "--min-free does nothing with --postgres"},
		{"a password in the other URL", []string{"SEQUIN_POSTGRES", unreachable}, []string{"--postgres-listen", "postgres://u:secret@h/d"}, 2, "put the URL into $SEQUIN_POSTGRES_LISTEN"},
		{"the other URL alone", nil, []string{"--postgres-listen", unreachable, "--memory"}, 2, "--postgres-listen does nothing without --postgres"},
		{"the 2024 server", nil, []string{"--postgres", unreachable, "--compat", "aug2024"}, 2, "works with --memory only"},
		{"no URL", nil, []string{"--postgres", "mysql://h"}, 1, "the URL of Postgres is not valid"},
		{"nobody listens", nil, []string{"--postgres", unreachable}, 1, "check the URL, and that Postgres runs"},
		{"a URL with a password in the environment", []string{"SEQUIN_POSTGRES", "postgres://u:secret@127.0.0.1:1/d"}, nil, 1, "cannot use Postgres at 127.0.0.1:1"},
		{"the command line wins", []string{"SEQUIN_DATA", "d"}, []string{"--postgres", unreachable}, 1, "cannot use Postgres at 127.0.0.1:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, errors := runNow(clitest.Environment(tt.env...), append([]string{"serve"}, tt.args...)...)
			require.Equal(t, tt.code, code, errors)
			require.Contains(t, errors, tt.want)
			require.NotContains(t, errors, "secret")
		})
	}
}
