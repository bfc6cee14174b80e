// Package console serves people: a page in the browser that shows what a running gateway does, and the HTTP API that the
// page is made from. While nobody looks, only its listener runs. It reads the store without consumers.
package console
