const Hapi = require('@hapi/hapi');
const { task, used } = require('./task.js');

(async () => {
    const server = Hapi.server({ host: '127.0.0.1', port: 0 });
    await server.register(require('bassmaster'));
    server.route({ method: 'GET', path: '/tasks/{gid}', handler: (request) => task(request.params.gid) });
    server.route({ method: 'GET', path: '/cpu', handler: used });
    await server.start();
    console.log(server.info.port);
})();
