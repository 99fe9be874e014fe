package server

// operation is what a request asks for.
type operation uint8

const (
	noOperation operation = iota // of a path or a method that no route has
	opHomePage
	opListStreams
	opCreateStream
	opGetStream
	opUpdateStream
	opDeleteStream
	opPurge
	opSend
	opListMessages
	opGetMessage
	opMessageInfo
	opListConsumers
	opCreateConsumer
	opGetConsumer
	opUpdateConsumer
	opDeleteConsumer
	opReceive
	opAck
	opNack
	opExtend
	opEndReceive
	opPeek
	opReceiveSink
	opAckSink
	opNackSink
	opGetSink
	opUpdateSink
	operations // their number
)

// api is the API that a route belongs to.
type api uint8

const (
	streamsAPI   api = iota // that of the 2024 server, which the documented mode has, too
	extensionAPI            // what only the documented mode has
	sinksAPI
	pageAPI // the page of the 2024 server
)

// effect is what a request of a route does to messages, as far as a limit or a refusal depends on it.
type effect uint8

const (
	otherEffect effect = iota
	leases             // it changes something also if its method is GET
	settles            // its body may take the bytes that are kept for settles
)

// route is a row of the table of all routes. A "*" in a shape is a name or an id.
type route struct {
	op     operation
	api    api
	needs  Rights // one of them
	effect effect
	shapes []string
}

// routeTable has every route. The switch of call.route runs the operations.
var routeTable = []route{
	{opHomePage, pageAPI, AllRights, otherEffect, []string{"GET "}},

	{opListStreams, streamsAPI, CanRead, otherEffect, []string{"GET api/streams"}},
	{opCreateStream, streamsAPI, CanAdmin, otherEffect, []string{"POST api/streams"}},
	{opGetStream, streamsAPI, AllRights, otherEffect, []string{"GET api/streams/*"}},
	{opUpdateStream, streamsAPI, CanAdmin, otherEffect, []string{"PUT api/streams/*", "PATCH api/streams/*"}},
	{opDeleteStream, streamsAPI, CanAdmin, otherEffect, []string{"DELETE api/streams/*"}},
	{opPurge, extensionAPI, CanAdmin, otherEffect, []string{"POST api/streams/*/purge"}},

	{opSend, streamsAPI, CanSend, otherEffect, []string{"POST api/streams/*/messages"}},
	{opListMessages, streamsAPI, CanRead, otherEffect, []string{"GET api/streams/*/messages"}},
	{opGetMessage, streamsAPI, CanRead, otherEffect, []string{"GET api/streams/*/messages/*"}},
	{opMessageInfo, streamsAPI, CanRead, otherEffect, []string{"GET api/streams/*/messages/*/consumer_info"}},

	{opListConsumers, streamsAPI, CanRead, otherEffect, []string{"GET api/streams/*/consumers"}},
	{opCreateConsumer, streamsAPI, CanAdmin, otherEffect, []string{"POST api/streams/*/consumers"}},
	{opGetConsumer, streamsAPI, AllRights, otherEffect, []string{"GET api/streams/*/consumers/*"}},
	{opUpdateConsumer, streamsAPI, CanAdmin, otherEffect, []string{"PUT api/streams/*/consumers/*", "PATCH api/streams/*/consumers/*"}},
	{opDeleteConsumer, streamsAPI, CanAdmin, otherEffect, []string{"DELETE api/streams/*/consumers/*"}},

	{opReceive, streamsAPI, CanConsume, leases, []string{"GET api/streams/*/consumers/*/receive", "POST api/streams/*/consumers/*/receive"}},
	{opAck, streamsAPI, CanConsume, settles, []string{"POST api/streams/*/consumers/*/ack"}},
	{opNack, streamsAPI, CanConsume, settles, []string{"POST api/streams/*/consumers/*/nack"}},
	{opExtend, extensionAPI, CanConsume, settles, []string{"POST api/streams/*/consumers/*/extend"}},
	{opEndReceive, extensionAPI, CanConsume, settles, []string{"POST api/streams/*/consumers/*/end_receive"}},
	{opPeek, streamsAPI, CanRead | CanConsume, otherEffect, []string{"GET api/streams/*/consumers/*/messages"}},

	{opReceiveSink, sinksAPI, CanConsume, leases, []string{
		"GET api/sequin_streams/*/receive", "POST api/sequin_streams/*/receive",
		"GET api/http_pull_consumers/*/receive", "POST api/http_pull_consumers/*/receive",
	}},
	{opAckSink, sinksAPI, CanConsume, settles, []string{"POST api/sequin_streams/*/ack", "POST api/http_pull_consumers/*/ack"}},
	{opNackSink, sinksAPI, CanConsume, settles, []string{"POST api/sequin_streams/*/nack", "POST api/http_pull_consumers/*/nack"}},
	{opGetSink, sinksAPI, AllRights, otherEffect, []string{"GET api/sinks/*"}},
	{opUpdateSink, sinksAPI, CanAdmin, otherEffect, []string{"PATCH api/sinks/*", "PUT api/sinks/*"}},
}

// found is a route with the shape by which it was found.
type found struct {
	*route
	shape string
}

// routes are the routes by their shapes.
var routes = func() map[string]found {
	byShape := map[string]found{}
	for i := range routeTable {
		for _, shape := range routeTable[i].shapes {
			byShape[shape] = found{&routeTable[i], shape}
		}
	}
	return byShape
}()

// noRoute is found for a path or a method that no route has. Each token may ask for it.
var noRoute = found{&route{needs: AllRights}, otherRoute}

// find finds the route of the request.
func (c *call) find() found {
	var buf [128]byte
	if f, ok := routes[string(c.appendShape(buf[:0]))]; ok {
		return f
	}
	return noRoute
}
