package wire

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnnouncedExtensionsAreRead(t *testing.T) {
	for _, row := range []struct {
		lists  []string
		want   Extensions
		listed bool
	}{
		{nil, 0, false},
		{[]string{""}, 0, true},
		{[]string{"fenced-acks"}, FencedAcks, true},
		{[]string{"fenced-acks, parts,nack-delay", "extend ,paging, bare, purge,start, headers, end-receive"}, FencedAcks | Parts | NackDelay | Extend | Paging | Bare | Purge | Start | Headers | EndReceive, true},
		{[]string{"fenced-ack, of the future, Parts"}, 0, true},
	} {
		got, listed := AnnouncedBy(http.Header{"Sequin-Extensions": row.lists})
		if row.lists == nil {
			got, listed = AnnouncedBy(http.Header{})
		}
		require.Equal(t, row.want, got, row.lists)
		require.Equal(t, row.listed, listed, row.lists)
	}
	require.Equal(t, "nack-delay, paging", (NackDelay | Paging).String())
}
