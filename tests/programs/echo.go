// Echoes, relays and checks: echo serve PORT | relay PORT TARGET PREFACE | client PORT MESSAGES BYTES, on 127.0.0.1.
//
// The relay copies with io.Copy, which on Linux is splice(2) between two TCP connections; with a PREFACE it first reads
// and writes so many bytes each way itself, as a proxy does with the messages before an HTTP upgrade.
package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strconv"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	must(err)
	return value
}

func dial(port string) *net.TCPConn {
	conn, err := net.Dial("tcp4", "127.0.0.1:"+port)
	must(err)
	return conn.(*net.TCPConn)
}

func listen(port string, handle func(*net.TCPConn)) {
	listener, err := net.Listen("tcp4", "127.0.0.1:"+port)
	must(err)
	fmt.Println("listening")
	for {
		conn, err := listener.Accept()
		must(err)
		go handle(conn.(*net.TCPConn))
	}
}

func echo(conn *net.TCPConn) {
	defer conn.Close()
	buffer := make([]byte, 65536)
	for {
		length, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err = conn.Write(buffer[:length]); err != nil {
			return
		}
	}
}

func relay(client *net.TCPConn, target string, preface int) {
	server := dial(target)
	defer client.Close()
	defer server.Close()
	buffer := make([]byte, 65536)
	for done := 0; done < preface; {
		length, err := client.Read(buffer)
		must(err)
		_, err = server.Write(buffer[:length])
		must(err)
		_, err = io.ReadFull(server, buffer[:length])
		must(err)
		_, err = client.Write(buffer[:length])
		must(err)
		done += length
	}
	back := make(chan struct{})
	go func() {
		io.Copy(client, server)
		client.CloseWrite()
		close(back)
	}()
	io.Copy(server, client)
	server.CloseWrite()
	<-back
}

func check(conn *net.TCPConn, messages, length int) {
	random := rand.New(rand.NewSource(1))
	for range messages {
		sent := make([]byte, 1+random.Intn(4096))
		random.Read(sent)
		_, err := conn.Write(sent)
		must(err)
		received := make([]byte, len(sent))
		_, err = io.ReadFull(conn, received)
		must(err)
		if !bytes.Equal(sent, received) {
			must(fmt.Errorf("a message came back changed"))
		}
	}
	sent := make([]byte, length)
	random.Read(sent)
	go func() {
		_, err := conn.Write(sent)
		must(err)
		must(conn.CloseWrite())
	}()
	received, err := io.ReadAll(conn)
	must(err)
	if !bytes.Equal(sent, received) {
		must(fmt.Errorf("%d bytes were sent, %d came back", len(sent), len(received)))
	}
	fmt.Println("ok", messages, length)
}

func main() {
	switch args := os.Args; args[1] {
	case "serve":
		listen(args[2], echo)
	case "relay":
		listen(args[2], func(conn *net.TCPConn) { relay(conn, args[3], number(args[4])) })
	case "client":
		check(dial(args[2]), number(args[3]), number(args[4]))
	}
}
