// What every server of the benchmark answers, and what it has used so far.
exports.task = (gid) => ({
    data: { gid, resource_type: 'task', resource_subtype: 'default_task', name: 'Write the benchmark' },
});

exports.used = () => {
    const { user, system } = process.cpuUsage();
    return String((user + system) / 1e6);
};
