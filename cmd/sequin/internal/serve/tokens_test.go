package serve

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/server"
)

func TestEachTokenHasItsRights(t *testing.T) {
	tokens, err := ReadTokens(clitest.File(t, "# ours\nweb send s3cret\n\n  billing\tconsume,read other \r\n"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, server.CanSend, tokens.Rights("s3cret"))
	require.Equal(t, server.CanConsume|server.CanRead, tokens.Rights("other"))
	for _, token := range []string{"", "web", "s3cre", "s3cret ", "# ours"} {
		require.Zero(t, tokens.Rights(token), token)
	}
	require.False(t, tokens.single())
	require.Equal(t, "web (send), billing (read,consume)", tokens.names())
	tokens, err = ReadTokens(clitest.File(t, "web send s3cret\n"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.False(t, tokens.single(), "it has a name")
	tokens, err = ReadTokens(clitest.File(t, "s3cret\n"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, server.AllRights, tokens.Rights("s3cret"))
	require.True(t, tokens.single())
}

func TestATokenFileThatIsWrongIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "there is no token in ",
		"two words":                    "cannot be sent in a header",
		"one\ntwo":                     "line 1: write one line with a token, or lines with a name, rights and a token",
		"a read s3cret\ns3cret2":       "line 2: write one line",
		"a fly s3cret":                 "line 1: write one line",
		"a read s3cret\na send s3cre2": "line 2: the name or the token is that of another line",
		"a read s3cret\nb send s3cret": "line 2: the name or the token is that of another line",
		"a read s3cr\x01et":            "cannot be sent in a header",
	} {
		_, err := ReadTokens(clitest.File(t, text), slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want)
		require.Equal(t, cli.ExitUsage, cli.ExitCode(err))
		require.NotContains(t, err.Error(), "s3cr")
	}
}

func TestATokenIsReplacedWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		file := clitest.File(t, "web send s3cret-old\n")
		write := func(text string) {
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			time.Sleep(tokensFor)
		}
		tokens, err := ReadTokens(file, slog.New(slog.NewTextHandler(&log, nil)))
		require.NoError(t, err)
		write("web send s3cret-old\nweb2 send s3cret-new\n")
		require.Equal(t, server.CanSend, tokens.Rights("s3cret-new"))
		require.Equal(t, server.CanSend, tokens.Rights("s3cret-old"))
		write("web2 send s3cret-new\n")
		require.Zero(t, tokens.Rights("s3cret-old"))
		write("broken line of s3cret\n")
		require.Equal(t, server.CanSend, tokens.Rights("s3cret-new"), "the tokens before stay in use")
		unusable := func() int { return strings.Count(log.String(), "cannot be used") }
		for range 3 {
			require.Equal(t, 1, unusable(), "it is said once, however long the file stays so")
			time.Sleep(tokensFor)
			require.NotZero(t, tokens.Rights("s3cret-new"))
		}
		tokens.reload()
		require.Equal(t, 2, unusable(), "who sends SIGHUP is told")
		require.NoError(t, os.Remove(file))
		time.Sleep(tokensFor)
		require.Equal(t, server.CanSend, tokens.Rights("s3cret-new"))
		write("web2 admin s3cret-new\n")
		require.Equal(t, server.CanAdmin, tokens.Rights("s3cret-new"))
		require.NotContains(t, log.String(), "s3cret")
	})
}

// The file is looked at once a second, and read when its size or its time differs.
func TestATokenFileIsReadWhenItHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		file, at := clitest.File(t, ""), time.Unix(1_000_000_000, 0)
		write := func(text string, at time.Time) {
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			require.NoError(t, os.Chtimes(file, at, at))
		}
		write("s3cret-1\n", at)
		tokens, err := ReadTokens(file, slog.New(slog.NewTextHandler(&log, nil)))
		require.NoError(t, err)
		for range 3 {
			time.Sleep(tokensFor)
			require.NotZero(t, tokens.Rights("s3cret-1"))
		}
		require.Empty(t, log.String(), "it has not changed")
		write("s3cret-2\n", at.Add(time.Minute))
		require.Zero(t, tokens.Rights("s3cret-2"), "it was looked at within the second")
		time.Sleep(tokensFor)
		require.NotZero(t, tokens.Rights("s3cret-2"), "its time has changed")
		write("longer-s3cret\n", at.Add(time.Minute))
		time.Sleep(tokensFor)
		require.NotZero(t, tokens.Rights("longer-s3cret"), "its size has changed")
		time.Sleep(tokensFor)
		require.NotZero(t, tokens.Rights("longer-s3cret"))
		require.Equal(t, 2, bytes.Count(log.Bytes(), []byte("was read again")))
	})
}
