// Echoes and checks: Echo.java serve PORT | client PORT MESSAGES BYTES | blocking PORT MESSAGES BYTES, on 127.0.0.1.
// The server is one thread with a Selector, the client a non-blocking channel or an ordinary socket.

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.Random;

public class Echo {
    public static void main(String[] args) throws Exception {
        InetSocketAddress address = new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1]));
        switch (args[0]) {
            case "serve" -> serve(address);
            case "client" -> client(address, Integer.parseInt(args[2]), Integer.parseInt(args[3]));
            default -> blocking(address, Integer.parseInt(args[2]), Integer.parseInt(args[3]));
        }
    }

    static void serve(InetSocketAddress address) throws IOException {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open().bind(address);
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        System.out.println("listening");
        while (true) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) {
                    SocketChannel channel = listener.accept();
                    channel.configureBlocking(false);
                    channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
                    channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(65536));
                } else {
                    echo(key);
                }
            }
            selector.selectedKeys().clear();
        }
    }

    /** Reads while nothing waits to be written, else writes. */
    static void echo(SelectionKey key) throws IOException {
        SocketChannel channel = (SocketChannel) key.channel();
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        if (key.isReadable()) {
            buffer.clear();
            if (channel.read(buffer) < 0) {
                channel.close();
                return;
            }
            buffer.flip();
        }
        channel.write(buffer);
        key.interestOps(buffer.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
    }

    static void client(InetSocketAddress address, int messages, int length) throws IOException {
        SocketChannel channel = SocketChannel.open(address);
        channel.configureBlocking(false);
        channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
        Selector selector = Selector.open();
        SelectionKey key = channel.register(selector, 0);
        Random random = new Random(1);
        for (int message = 0; message <= messages; message++) {
            byte[] sent = new byte[message < messages ? 1 + random.nextInt(4096) : length];
            random.nextBytes(sent);
            ByteBuffer out = ByteBuffer.wrap(sent), in = ByteBuffer.allocate(sent.length);
            while (in.hasRemaining()) {
                key.interestOps(SelectionKey.OP_READ | (out.hasRemaining() ? SelectionKey.OP_WRITE : 0));
                selector.select();
                selector.selectedKeys().clear();
                channel.write(out);
                if (channel.read(in) < 0) throw new IOException("an early end");
            }
            if (!Arrays.equals(sent, in.array())) throw new IOException("message " + message + " came back changed");
        }
        channel.shutdownOutput();
        key.interestOps(SelectionKey.OP_READ);
        selector.select();
        if (channel.read(ByteBuffer.allocate(1)) != -1) throw new IOException("no end");
        System.out.println("ok " + messages + " " + length);
    }

    static void blocking(InetSocketAddress address, int messages, int length) throws Exception {
        try (Socket socket = new Socket(address.getAddress(), address.getPort())) {
            socket.setTcpNoDelay(true);
            Random random = new Random(1);
            for (int message = 0; message <= messages; message++) {
                byte[] sent = new byte[message < messages ? 1 + random.nextInt(4096) : length];
                random.nextBytes(sent);
                Thread writer = new Thread(() -> {
                    try {
                        socket.getOutputStream().write(sent);
                    } catch (IOException error) {
                        System.exit(1);
                    }
                });
                writer.start();
                byte[] received = socket.getInputStream().readNBytes(sent.length);
                writer.join();
                if (!Arrays.equals(sent, received)) throw new IOException("message " + message + " came back changed");
            }
            socket.shutdownOutput();
            if (socket.getInputStream().read() != -1) throw new IOException("no end");
            System.out.println("ok " + messages + " " + length);
        }
    }
}
