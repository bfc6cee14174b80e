// Package console serves people: a page in the browser that shows what a running gateway does, and the HTTP API that the
// page is made from. While nobody looks nothing of it runs but the listener. It reads the store without consumers.
package console
