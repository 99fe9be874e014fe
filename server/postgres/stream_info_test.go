package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// TestADamagedStreamIsLeftOutOfThoseThatAreListed has retention, because the keys of a stream that has lost nothing are not read.
func TestADamagedStreamIsLeftOutOfThoseThatAreListed(t *testing.T) {
	st := openWith(t, Options{Schema: newSchema(t), MaxConns: 4, ListenURL: "-", cleanEvery: -1, moveEvery: -1})
	for _, name := range []string{"first", "damaged", "last"} {
		s, err := st.CreateStream(t.Context(), store.StreamOptions{Name: name, RetainUpTo: 1})
		require.NoError(t, err)
		send(t, s, store.Message{Key: "a"}, store.Message{Key: "b"})
	}
	_, err := connect(t).Exec(t.Context(), st.q("update {s}.chunks set keys = substring(keys from 1 for length(keys) - 1) where stream_id = (select id from {s}.streams where name = 'damaged')"))
	require.NoError(t, err)
	all, err := st.StreamInfos(t.Context())
	require.ErrorIs(t, err, store.ErrDamaged)
	require.Len(t, all, 2)
	require.Equal(t, []string{"last", "first"}, []string{all[0].Name, all[1].Name})
	require.Equal(t, 1, all[0].Messages)
	s, err := st.Stream(t.Context(), "damaged")
	require.NoError(t, err)
	_, err = s.Info(t.Context())
	require.ErrorIs(t, err, store.ErrDamaged)
}
