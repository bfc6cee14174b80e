// Package services answers programs and calls them: the request service on {prefix}.req.> (Serve), and the programs that serve
// commands on {prefix}.cmd.> (NewHandlers). What a request means the core decides, as a bridge.RequestHandler.
//
// Here a request is read, bounded, handed on to the bridge that has the Thing when there are several, and answered, and it is
// found out whether anybody heard the answer; of a command it is found out whether anybody serves it, or only looks on. It has a
// connection and subjects, and no streams of its own: what is stored of requests and commands others store.
package services
