package outage

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func watched() (o *Outage, told *[]string) {
	told = new([]string)
	return &Outage{
		Begun: func(err error) { *told = append(*told, err.Error()) },
		Over: func(lasted time.Duration, failures int) {
			*told = append(*told, fmt.Sprintf("over after %v, %d failed", lasted, failures))
		},
	}, told
}

func TestAnOutageIsToldOnceEachWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, told := watched()
		o.Succeeded()
		require.Empty(t, *told)
		require.NoError(t, o.Cause())
		require.True(t, o.Since().IsZero())

		began := time.Now()
		o.Failed(errors.New("down"))
		time.Sleep(time.Second)
		o.Failed(errors.New("still down"))
		require.EqualError(t, o.Cause(), "still down")
		require.Equal(t, began, o.Since())
		o.Succeeded()
		o.Succeeded()
		require.Equal(t, []string{"down", "over after 1s, 2 failed"}, *told)
		require.NoError(t, o.Cause())
		require.True(t, o.Since().IsZero())
	})
}

func TestAnOutageThatComesAndGoesIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, told := watched()
		for range 59 {
			o.Failed(errors.New("down"))
			o.Succeeded()
			time.Sleep(time.Second)
		}
		require.Equal(t, []string{"down", "over after 0s, 1 failed"}, *told)
		o.Failed(errors.New("down"))
		time.Sleep(time.Second)
		require.Len(t, *told, 2)
		o.Failed(errors.New("down")) // it goes on
		time.Sleep(time.Second)
		o.Succeeded()
		require.Equal(t, []string{"down", "over after 2s, 2 failed"}, (*told)[2:], "it began before it was told")
	})
}

func TestWhatIsNotedIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, told := watched()
		o.Note(errors.New("refused"))
		require.EqualError(t, o.Cause(), "refused")
		_, unended := o.Unended()
		require.False(t, unended)
		o.Succeeded()
		require.Empty(t, *told)

		o.Failed(errors.New("down"))
		time.Sleep(time.Second)
		lasted, unended := o.Unended()
		require.True(t, unended)
		require.Equal(t, time.Second, lasted)
		o.Succeeded()
		require.Equal(t, []string{"down"}, *told, "its end is told by whoever has asked")
	})
}
