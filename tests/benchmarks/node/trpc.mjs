import { createServer } from 'node:http';
import { initTRPC } from '@trpc/server';
import { createHTTPHandler } from '@trpc/server/adapters/standalone';
import shared from './task.js';

const t = initTRPC.create();
const router = t.router({ task: t.procedure.input(String).query(({ input }) => shared.task(input)) });
const handle = createHTTPHandler({ router });
const server = createServer((request, response) => {
    if (request.url === '/cpu') {
        const content = shared.used();
        response.writeHead(200, { 'content-length': content.length }).end(content);
    } else {
        handle(request, response);
    }
});
server.keepAliveTimeout = 600_000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
