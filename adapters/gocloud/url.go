package sequinpubsub

import (
	"context"
	"fmt"
	"net/url"

	"gocloud.dev/pubsub"

	"github.com/sequin-go/sequin"
)

// Scheme is the scheme of the URLs of this package.
const Scheme = "sequin"

func init() {
	o := new(URLOpener)
	pubsub.DefaultURLMux().RegisterTopic(Scheme, o)
	pubsub.DefaultURLMux().RegisterSubscription(Scheme, o)
}

// URLOpener opens URLs such as sequin://orders for topics, and sequin://orders?consumer=billing for subscriptions. Both may have
// key_name=NAME, which replaces the KeyName of the options. Other, empty, repeated and missing parameters are errors.
//
// The zero URLOpener, which the default mux has, makes a client for each URL, whose server is $SEQUIN_URL, or else
// http://localhost:7376, and whose token is $SEQUIN_TOKEN.
type URLOpener struct {
	Client              *sequin.Client // used and not closed
	TopicOptions        TopicOptions
	SubscriptionOptions SubscriptionOptions
}

// OpenTopicURL opens the topic of a URL. It makes no request.
func (o *URLOpener) OpenTopicURL(_ context.Context, u *url.URL) (*pubsub.Topic, error) {
	opts := o.TopicOptions
	err := parse(u, map[string]*string{"key_name": &opts.KeyName})
	if err != nil {
		return nil, fmt.Errorf("open topic %v: %w", u, err)
	}
	client, owned, err := o.client()
	if err != nil {
		return nil, fmt.Errorf("open topic %v: %w", u, err)
	}
	t, batches, err := newTopic(client, u.Host, &opts)
	if err != nil {
		return nil, err
	}
	t.owned = owned
	return pubsub.NewTopic(t, batches), nil
}

// OpenSubscriptionURL opens the subscription of a URL. It makes no request.
func (o *URLOpener) OpenSubscriptionURL(_ context.Context, u *url.URL) (*pubsub.Subscription, error) {
	opts, consumer := o.SubscriptionOptions, ""
	err := parse(u, map[string]*string{"key_name": &opts.KeyName, "consumer": &consumer})
	if err == nil && consumer == "" {
		err = fmt.Errorf("the parameter consumer is missing: %s://%s?consumer=NAME", Scheme, u.Host)
	}
	if err != nil {
		return nil, fmt.Errorf("open subscription %v: %w", u, err)
	}
	client, owned, err := o.client()
	if err != nil {
		return nil, fmt.Errorf("open subscription %v: %w", u, err)
	}
	s, all, err := newSubscription(client, u.Host, consumer, &opts)
	if err != nil {
		return nil, err
	}
	s.owned = owned
	return pubsub.NewSubscription(s, &all.ReceiveBatcherOptions, &all.AckBatcherOptions), nil
}

func (o *URLOpener) client() (client *sequin.Client, owned bool, err error) {
	if o.Client != nil {
		return o.Client, false, nil
	}
	client, err = sequin.NewClient(sequin.Config{})
	return client, true, err
}

// parse checks a URL, and sets the parameters that it has.
func parse(u *url.URL, parameters map[string]*string) error {
	if u.Host == "" {
		return fmt.Errorf("the name of the stream is missing: %s://NAME", Scheme)
	}
	if u.Host != u.Hostname() || u.User != nil || u.Path != "" || u.Fragment != "" {
		return fmt.Errorf("only the name of the stream and parameters are allowed: %s://NAME?…; $SEQUIN_URL names the server", Scheme)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return err
	}
	for name, values := range query {
		target, known := parameters[name]
		switch {
		case !known:
			return fmt.Errorf("the parameter %q is not known", name)
		case len(values) > 1:
			return fmt.Errorf("the parameter %s is repeated", name)
		case values[0] == "":
			return fmt.Errorf("the parameter %s is empty", name)
		}
		*target = values[0]
	}
	return nil
}
